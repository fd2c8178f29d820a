"""`momentum=None`: moving statistics are the plain average of every batch's."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import thinned

from bnzoo.layers import BatchNormalization


def batches():
    random = np.random.default_rng(0)
    return [random.normal(i, 1.0 + i, (5 + i, 4)).astype("float32") for i in range(4)]


CASES = {
    "auto": {},
    "reference": {"implementation": "reference"},
    "xla": {"implementation": "xla"},
    "fused": {"implementation": "fused"},
    "ghosts": {"virtual_batch_size": 100},
    "synchronized": {"synchronized": True},
    "unbiased": {"unbiased_moving_variance": True},
}


@pytest.mark.parametrize(
    ("name", "mode"), thinned(CASES, [("eager",), ("unknown",), ("jit_compile",)], ["auto"])
)
def test_it_is_the_average_of_the_batches(name, mode):
    arguments = CASES[name]
    if arguments.get("implementation") == "fused" and mode == "jit_compile":
        pytest.skip("forced fused kernels are an error under XLA, see tests/test_ops_kernels.py")
    layer = BatchNormalization(momentum=None, **arguments)
    layer.build((None, 4))
    step = {
        "eager": lambda step: step,
        "unknown": lambda step: tf.function(step, input_signature=[tf.TensorSpec([None, 4])]),
        "jit_compile": lambda step: tf.function(step, jit_compile=True),
    }[mode](lambda x: layer(x, training=True))
    for x in batches():
        step(tf.constant(x))
    ddof = 1 if layer.unbiased_moving_variance else 0
    means, variances = zip(*((x.mean(0), x.var(0, ddof=ddof)) for x in batches()), strict=True)
    np.testing.assert_allclose(layer.moving_mean, np.mean(means, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, np.mean(variances, 0), rtol=1e-5)
    assert float(layer.num_batches) == 4


def test_the_first_batch_replaces_what_the_weights_began_with():
    layer = BatchNormalization(momentum=None, moving_mean_initializer="ones")
    x = batches()[1]
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, x.var(0), rtol=1e-6)


def test_renorm_averages_mean_and_spread():
    layer = BatchNormalization(momentum=None, renorm=True)
    for x in batches():
        layer(x, training=True)
    stddev = np.mean([np.sqrt(x.var(0) + 1e-3) for x in batches()], 0)
    np.testing.assert_allclose(layer.moving_mean, np.mean([x.mean(0) for x in batches()], 0), 1e-5)
    np.testing.assert_allclose(layer.moving_stddev, stddev, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, stddev**2 - 1e-3, rtol=1e-5)


@pytest.mark.parametrize("renorm", [False, True])
def test_the_counter_is_the_last_weight_and_only_then(renorm):
    layers = [BatchNormalization(momentum=momentum, renorm=renorm) for momentum in (None, 0.9)]
    for layer in layers:
        layer.build((None, 3))
    ours, plain = ([weight.name for weight in layer.weights] for layer in layers)
    assert ours == [*plain, "num_batches"]
    assert layers[0].num_batches.shape == ()
    assert not layers[0].num_batches.trainable
    assert layers[1].num_batches is None


def test_averaging_goes_on_after_saving(tmp_path):
    first, second = batches()[:2]
    layer = BatchNormalization(momentum=None)
    model = keras.Sequential([keras.Input((4,)), layer])
    model(first, training=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.layers[0].momentum is None
    again(second, training=True)
    expected = (first.mean(0) + second.mean(0)) / 2
    np.testing.assert_allclose(again.layers[0].moving_mean, expected, rtol=1e-6, atol=1e-6)
    assert float(again.layers[0].num_batches) == 2


def test_inference_and_frozen_layers_count_nothing():
    layer = BatchNormalization(momentum=None)
    x = batches()[0]
    layer(x)
    layer.trainable = False
    layer(x, training=True)
    assert float(layer.num_batches) == 0
    assert layer.moving_variance.numpy().tolist() == [1, 1, 1, 1]


def test_fit_counts_every_batch():
    x = np.concatenate(batches())
    layer = BatchNormalization(momentum=None)
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, x[:, :1], batch_size=8, epochs=2, shuffle=False, verbose=0)
    parts = [x[start : start + 8] for start in range(0, len(x), 8)]
    assert float(layer.num_batches) == 2 * len(parts)
    expected = np.mean([part.mean(0) for part in parts], 0)
    np.testing.assert_allclose(layer.moving_mean, expected, rtol=1e-5, atol=1e-6)
