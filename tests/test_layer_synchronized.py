"""Two replicas with `synchronized=True` equal one big batch.

Logical devices have to exist before TensorFlow starts, so this file runs itself in a process of
its own and writes down what came out.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CASES = {
    "even": {"sizes": (4, 4)},
    "uneven": {"sizes": (5, 2)},
    "empty_replica": {"sizes": (6, 0)},
    "large_offset": {"sizes": (5, 3), "offset": 1e4, "dtype": "float32"},
    "masked": {"sizes": (4, 3), "masked": True},
    "masked_replica": {"sizes": (4, 3), "masked": "second"},
    "channels_first": {"sizes": (3, 4), "masked": True, "arguments": {"axis": 1}},
    "renorm": {"sizes": (4, 3), "arguments": {"renorm": True}},
    "unbiased": {"sizes": (4, 3), "arguments": {"unbiased_moving_variance": True}},
    "eager": {"sizes": (4, 2), "eager": True},
}


def batch_of(sizes, offset=0.0, masked=False, dtype="float64", **_):
    """Make x, upstream gradients, directions and a mask: the whole batch."""
    random = np.random.default_rng(11)
    total = sum(sizes)
    x = (random.normal(size=(total, 3, 3)) + offset).astype(dtype)
    upstream, direction = random.normal(size=(2, *x.shape)).astype(dtype)
    mask = None
    if masked:
        mask = random.uniform(size=(total, 3)) < 0.6
        mask[0] = True
        mask[sizes[0] :] &= masked != "second"
    return x, upstream, direction, mask


def replica_step(layer, x, upstream, direction, mask):
    """Return outputs, the gradients of x and the weights, and the gradient of x once more."""
    import tensorflow as tf

    weights = [weight.value for weight in layer.trainable_variables]
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            outputs = layer(x, training=True, mask=mask)
            loss = tf.reduce_sum(outputs * outputs * upstream)
        first, *learned = inner.gradient(loss, [x, *weights])
        projected = tf.reduce_sum(first * direction)
    return outputs, first, outer.gradient(projected, x), *learned


def layer_for(arguments, dtype):
    from bnzoo.layers import BatchNormalization

    options = {"momentum": 0.25, "synchronized": True, "dtype": dtype} | arguments
    layer = BatchNormalization(**options)
    layer.build((None, 3, 3))
    layer.set_weights([np.linspace(0.5, 1.5, 3) for _ in layer.weights])
    return layer


def run_replicas(strategy, case):
    """Run one case on every replica and lay the pieces together again."""
    import tensorflow as tf

    x, upstream, direction, mask = batch_of(**case)
    edges = np.cumsum([0, *case["sizes"]])

    def share(array):
        if array is None:
            return None
        pieces = [tf.constant(array[start:end]) for start, end in itertools.pairwise(edges)]
        take = pieces.__getitem__
        return strategy.experimental_distribute_values_from_function(
            lambda context: take(context.replica_id_in_sync_group)
        )

    with strategy.scope():
        layer = layer_for(case.get("arguments", {}), case.get("dtype", "float64"))

    def step(*shares):
        return strategy.run(lambda *mine: replica_step(layer, *mine), shares)

    step = step if case.get("eager") else tf.function(step)
    shares = [share(array) for array in (x, upstream, direction)]
    results = [strategy.experimental_local_results(result) for result in step(*shares, share(mask))]
    whole = [np.concatenate([np.asarray(piece) for piece in result]) for result in results[:3]]
    learned = [sum(np.asarray(piece) for piece in result) for result in results[3:]]
    replicas = [
        [np.asarray(value).tolist() for value in strategy.experimental_local_results(weight.value)]
        for weight in layer.non_trainable_variables
    ]
    return {
        "whole": [array.tolist() for array in whole],
        "learned": [array.tolist() for array in learned],
        "moving": replicas,
    }


def count_exchanges(strategy):
    """Count the collectives of one step forward and backward, per replica."""
    import tensorflow as tf

    calls = []
    original = tf.distribute.ReplicaContext.all_reduce

    def counted(self, *arguments, **options):
        calls.append(arguments)
        return original(self, *arguments, **options)

    with strategy.scope():
        layer = layer_for({}, "float32")

    def step():
        x = tf.ones((2, 3, 3))
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            forward = len(calls)
            loss = tf.reduce_sum(outputs * outputs)
        tape.gradient(loss, [x, *(weight.value for weight in layer.trainable_variables)])
        return forward

    # One after the other is enough here: MirroredStrategy starts its threads in turn.
    tf.distribute.ReplicaContext.all_reduce = counted
    try:
        tf.function(lambda: strategy.run(step))()
    finally:
        tf.distribute.ReplicaContext.all_reduce = original
    return len(calls) / strategy.num_replicas_in_sync


def fit(strategy, synchronized):
    """Train a model by `fit` on two replicas; return the moving statistics and the loss."""
    import keras

    from bnzoo.layers import BatchNormalization

    keras.utils.set_random_seed(1)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    with strategy.scope():
        layer = BatchNormalization(momentum=0.0, synchronized=synchronized)
        model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    history = model.fit(x, x[:, :1], batch_size=8, epochs=2, shuffle=False, verbose=0)
    inference = model.predict(x, verbose=0)
    return {
        "mean": np.asarray(layer.moving_mean).tolist(),
        "variance": np.asarray(layer.moving_variance).tolist(),
        "loss": history.history["loss"],
        "finite": bool(np.isfinite(inference).all()),
    }


def main(path):
    """Run everything on two logical devices and write the results as JSON."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    results = {name: run_replicas(strategy, case) for name, case in CASES.items()}
    results["exchanges"] = count_exchanges(strategy)
    results["fit"] = fit(strategy, synchronized=True)
    results["fit_local"] = fit(strategy, synchronized=False)
    Path(path).write_text(json.dumps(results))


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    path = tmp_path_factory.mktemp("replicas") / "results.json"
    root = Path(__file__).parents[1]
    environment = os.environ | {
        "PYTHONPATH": str(root),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", CASES)
def test_two_replicas_equal_one_big_batch(name, replicas):
    import tensorflow as tf

    case, actual = CASES[name], replicas[name]
    dtype = case.get("dtype", "float64")
    x, upstream, direction, mask = batch_of(**case)
    # In float64 whatever the case's dtype: the truth, not the same rounding.
    layer = layer_for(case.get("arguments", {}), "float64")
    tensors = [tf.constant(array.astype("float64")) for array in (x, upstream, direction)]
    mask = None if mask is None else tf.constant(mask)
    outputs, first, second, *learned = replica_step(layer, *tensors, mask)

    # A float32 mean near 1e4 is off by up to 5e-4, and the gradients are of order 1 to 10.
    tolerance = 1e-9 if dtype == "float64" else 2e-3
    relative = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(actual["whole"][0], outputs, **relative)
    np.testing.assert_allclose(actual["whole"][1], first, **relative)
    if dtype == "float64":
        np.testing.assert_allclose(actual["whole"][2], second, rtol=1e-8, atol=1e-8)
    for one, other in zip(actual["learned"], learned, strict=True):
        np.testing.assert_allclose(one, other, **relative)
    for pieces, weight in zip(actual["moving"], layer.non_trainable_variables, strict=True):
        assert pieces[0] == pieces[1], "replicas disagree"
        np.testing.assert_allclose(pieces[0], np.asarray(weight), rtol=1e-9 + tolerance / 10)


def test_one_exchange_forward_and_one_backward(replicas):
    assert replicas["exchanges"] == 2


def test_fit_under_a_strategy_keeps_global_statistics(replicas):
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    # float32 sums in another order.
    np.testing.assert_allclose(replicas["fit"]["mean"], x.mean(0), atol=1e-6)
    np.testing.assert_allclose(replicas["fit"]["variance"], x.var(0), rtol=1e-5)
    assert replicas["fit"]["loss"][1] < replicas["fit"]["loss"][0]
    assert replicas["fit"]["finite"]


def test_fit_under_a_strategy_works_with_local_statistics(replicas):
    first_half = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")[:4]
    # float32 sums in another order.
    np.testing.assert_allclose(replicas["fit_local"]["mean"], first_half.mean(0), atol=1e-6)
    np.testing.assert_allclose(replicas["fit_local"]["variance"], first_half.var(0), rtol=1e-5)
    assert replicas["fit_local"]["finite"]


def test_without_a_strategy_it_is_plain_batch_statistics():
    import tensorflow as tf

    x = tf.constant(batch_of((4, 4))[0])
    layers = [layer_for({"synchronized": flag}, "float64") for flag in (True, False)]
    outputs = [layer(x, training=True) for layer in layers]
    np.testing.assert_array_equal(*outputs)
    np.testing.assert_array_equal(*(layer.moving_variance for layer in layers))


if __name__ == "__main__":
    main(sys.argv[1])
