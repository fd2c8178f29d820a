"""Two replicas at work, in a process of its own: what tests/test_layer_synchronized.py looks at."""

import itertools
import json
import sys
from pathlib import Path

import numpy as np

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
    "cumulative": {"sizes": (4, 3), "arguments": {"momentum": None}},
    "xla": {"sizes": (5, 2), "arguments": {"implementation": "xla"}},
}
# XLA compiles each of these for seconds.
SLOW_CASES = {
    "reference": {"sizes": (5, 2), "arguments": {"implementation": "reference"}},
    "reference_eager": {
        "sizes": (5, 0),
        "eager": True,
        "masked": True,
        "arguments": {"implementation": "reference"},
    },
    "xla_eager": {"sizes": (4, 2), "eager": True, "arguments": {"implementation": "xla"}},
    "xla_masked_replica": {
        "sizes": (4, 3),
        "masked": "second",
        "arguments": {"implementation": "xla"},
    },
    "xla_empty_replica_at_an_offset": {
        "sizes": (6, 0),
        "offset": 1e4,
        "dtype": "float32",
        "arguments": {"implementation": "xla"},
    },
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
    start = np.linspace(0.5, 1.5, 3)
    layer.set_weights([start if len(weight.shape) else np.zeros(()) for weight in layer.weights])
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


def count_exchanges(strategy, implementation):
    """Count the collectives of one step forward and backward, per replica."""
    import tensorflow as tf

    calls = []
    original = tf.distribute.ReplicaContext.all_reduce

    def counted(self, *arguments, **options):
        calls.append(arguments)
        return original(self, *arguments, **options)

    with strategy.scope():
        layer = layer_for({"implementation": implementation}, "float32")

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


def fit(strategy, synchronized, size=8, **arguments):
    """Train a model by `fit` on two replicas; return the moving statistics and the loss."""
    import keras

    from bnzoo.layers import BatchNormalization

    keras.utils.set_random_seed(1)
    x = np.random.default_rng(0).normal(size=(size, 4)).astype("float32")
    with strategy.scope():
        layer = BatchNormalization(momentum=0.0, synchronized=synchronized, **arguments)
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


def fit_with_bad_batches(strategy, synchronized):
    """Count the bad batches of `fit` on two replicas; return them and the moving statistics."""
    import warnings

    import keras

    from bnzoo import BadBatches
    from bnzoo.layers import BatchNormalization

    x = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
    x[18] = np.nan
    with strategy.scope():
        layer = BatchNormalization(synchronized=synchronized)
        model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    bad = BadBatches()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, x[:, :1], batch_size=8, shuffle=False, verbose=0, callbacks=[bad])
    return {
        "total": bad.total,
        "warned": sum("batch normalization met" in str(warning.message) for warning in caught),
        "finite": bool(np.isfinite(np.asarray(layer.moving_variance)).all()),
    }


def main(path, which):
    """Run everything on two logical devices and write the results as JSON."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    if which == "slow":
        results = {name: run_replicas(strategy, case) for name, case in SLOW_CASES.items()}
        results["exchanges"] = {"reference": count_exchanges(strategy, "reference")}
        results["fit_xla"] = fit(strategy, synchronized=True, implementation="xla")
    else:
        results = {name: run_replicas(strategy, case) for name, case in CASES.items()}
        results["exchanges"] = {way: count_exchanges(strategy, way) for way in ("auto", "xla")}
        results["fit"] = fit(strategy, synchronized=True)
        results["fit_uneven"] = fit(strategy, synchronized=True, size=11)
        results["fit_local"] = fit(strategy, synchronized=False)
        results["bad_batches"] = [fit_with_bad_batches(strategy, flag) for flag in (True, False)]
    Path(path).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
