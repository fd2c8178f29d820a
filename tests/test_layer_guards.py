"""A batch that is not finite, or in which nothing counts, leaves every moving statistic alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import thinned

from bnzoo.layers import BatchNormalization

SHAPE = (4, 4, 8)
LAYERS = {
    "auto": {},
    "reference": {"implementation": "reference"},
    "fused": {"implementation": "fused"},
    "xla": {"implementation": "xla"},
    "unbiased": {"unbiased_moving_variance": True},
    "ghosts": {"virtual_batch_size": 4},
    "cumulative": {"momentum": None},
    "renorm": {"renorm": True},
    "renorm_cumulative": {"renorm": True, "momentum": None},
    "channels_first": {"axis": 1},
    "synchronized": {"synchronized": True},
}
MODES = {
    "eager": lambda step: step,
    "static": lambda step: tf.function(step),
    "unknown": lambda step: tf.function(step, input_signature=[tf.TensorSpec([None, *SHAPE])]),
    "jit_compile": lambda step: tf.function(step, jit_compile=True),
}


def built(arguments, seed=0):
    layer = BatchNormalization(**arguments)
    layer.build((None, *SHAPE))
    random = np.random.default_rng(seed)
    layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return layer


def good(batch=6):
    return np.random.default_rng(1).normal(1.0, 2.0, (batch, *SHAPE)).astype("float32")


def bad_batches():
    for value in (np.nan, np.inf, -np.inf):
        x = good()
        x[2, 1, 3, 5] = value
        yield x
    # Squares beyond float32's largest number.
    yield good() * 1e25
    yield good(0)


def moving(layer):
    return [weight.numpy().tobytes() for weight in layer.non_trainable_variables]


@pytest.mark.parametrize(
    ("name", "mode"), thinned(LAYERS, [(mode,) for mode in MODES], ("auto", "renorm", "ghosts"))
)
def test_a_bad_batch_moves_nothing_and_shows(name, mode):
    if name == "fused" and mode == "jit_compile":
        pytest.skip("forced fused kernels are an error under XLA, see tests/test_ops_kernels.py")
    layer = built(LAYERS[name])
    step = MODES[mode](lambda x: layer(x, training=True))
    before = moving(layer)
    for x in bad_batches():
        outputs = step(tf.constant(x)).numpy()
        assert moving(layer) == before
        assert outputs.shape == x.shape
        assert x.size == 0 or np.abs(x).max() > 1e20 or np.isnan(outputs[2]).any()
    step(tf.constant(good()))
    after = moving(layer)
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert all(np.isfinite(weight.numpy()).all() for weight in layer.weights)


@pytest.mark.parametrize(
    ("name", "mode"),
    thinned(
        [name for name in LAYERS if name != "fused"],
        [("eager",), ("jit_compile",)],
        ("auto", "renorm", "ghosts"),
    ),
)
def test_a_fully_masked_batch_moves_nothing(name, mode):
    layer = built(LAYERS[name])
    before = moving(layer)
    mask = np.zeros((6, 4, 8) if name == "channels_first" else (6, 4, 4), bool)
    x = good()
    x[1] = np.nan
    step = tf.function(
        lambda x: layer(x, training=True, mask=mask), jit_compile=mode == "jit_compile"
    )
    outputs = (layer(x, training=True, mask=mask) if mode == "eager" else step(x)).numpy()
    assert moving(layer) == before
    assert np.isfinite(outputs).all()


@pytest.mark.parametrize("name", ["auto", "reference", "xla", "fused", "channels_first", "ghosts"])
def test_a_nan_in_one_channel_shows_in_that_channel_only(name):
    layer = built(LAYERS[name])
    x = good(4)
    axis = layer.axis % 4
    np.moveaxis(x, axis, -1)[1, 2, 3, 1] = np.nan
    outputs = np.moveaxis(layer(x, training=True).numpy(), axis, -1)
    assert np.isnan(outputs[..., 1]).all()
    assert np.isfinite(np.delete(outputs, 1, -1)).all()


@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_of_one_has_variance_zero_and_gives_beta(name):
    layer = BatchNormalization(**LAYERS[name] | {"axis": -1})
    layer.build((None, 8))
    random = np.random.default_rng(0)
    gamma, beta = random.uniform(0.5, 1.5, (2, 8)).astype("float32")
    layer.set_weights([gamma, beta, *layer.get_weights()[2:]])
    x = random.normal(1e3, 1.0, (1, 8)).astype("float32")
    outputs = layer(x, training=True)
    if not layer.renorm:
        np.testing.assert_array_equal(outputs[0], beta)
        kept = 0 if layer.momentum is None else 0.99
        np.testing.assert_allclose(layer.moving_variance, np.full(8, kept), rtol=1e-6, atol=0)
    share = 1 if layer.momentum is None else 0.01
    np.testing.assert_allclose(layer.moving_mean, x[0] * share, rtol=1e-5)


def test_a_large_input_of_the_fused_size_is_guarded_too():
    layer = BatchNormalization()
    x = np.random.default_rng(0).normal(size=(64, 16, 16, 8)).astype("float32")
    assert layer.implementation_for(tf.constant(x)).implementation == "fused"
    layer(x, training=True)
    for value in (np.nan, np.inf, 3e38):
        before = moving(layer)
        spoiled = x.copy()
        spoiled[5, 6, 7, 3] = value
        layer(spoiled, training=True)
        assert moving(layer) == before


# Keras warns of a model that has nothing to learn.
@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
@pytest.mark.parametrize("name", ["auto", "fused", "xla", "cumulative", "renorm", "ghosts"])
def test_a_bad_batch_inside_fit_moves_nothing(name):
    """The second of three batches is bad: as if it had not been there."""
    x = np.concatenate([good(8), np.full((8, *SHAPE), np.nan, "float32"), good(4) + 1])
    arguments = LAYERS[name] | {"center": False, "scale": False}
    layers = []
    for kept in (x, np.concatenate([x[:8], x[16:]])):
        inputs = keras.Input(SHAPE)
        layer = BatchNormalization(**arguments)
        model = keras.Model(inputs, layer(inputs))
        model.compile("sgd", "mse")
        data = tf.data.Dataset.from_tensor_slices((kept, np.zeros_like(kept))).batch(8)
        model.fit(data, epochs=2, shuffle=False, verbose=0)
        layers.append(layer)
    assert moving(layers[0]) == moving(layers[1])
