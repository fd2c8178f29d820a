"""The layer against `keras.layers.BatchNormalization`, argument by argument."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from marks import KERAS_HAS_RENORM, needs_keras, needs_renorm

from bnzoo.layers import BatchNormalization

SHAPES = {2: (6, 3), 3: (4, 5, 3), 4: (3, 4, 2, 3), 5: (2, 3, 2, 2, 3)}

# Sums run in another order: a few roundings of the compute dtype in values of order 1 (4 for the
# outputs). Statistics and the gradients of gamma and beta are float32 in the mixed policies.
OUTPUT_TOLERANCE = {
    "float64": 1e-12,
    "float32": 5e-6,
    "mixed_float16": 4e-3,
    "mixed_bfloat16": 4e-2,
}
# Gradients are sums of up to 24 such values: ten times that.
GRADIENT_TOLERANCE = {policy: 10 * value for policy, value in OUTPUT_TOLERANCE.items()}
STATISTICS_TOLERANCE = dict.fromkeys(OUTPUT_TOLERANCE, 2e-6) | {"float64": 1e-12}
# Keras divides masked sums by n + 1e-7.
MASKED_TOLERANCE = 2e-6
BROADCAST = needs_keras("3.12", "before, its layer counts a mask before it is broadcast")
NARROW = [(4, 1), (1, 5), (1, 1)]


def pair(axis, policy, **arguments):
    return [
        cls(axis=axis, dtype=policy, **arguments)
        for cls in (BatchNormalization, keras.layers.BatchNormalization)
    ]


def start_alike(layers, shape, seed=0):
    for layer in layers:
        layer.build(shape)
        random = np.random.default_rng(seed)
        layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])


def results(layer, x, upstream, **call):
    """Return the outputs, the gradients of x and the weights, and the weights afterwards."""
    x = ops.cast(x, layer.compute_dtype)
    sources = [x, *(weight.value for weight in layer.trainable_variables)]
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, **call)
        loss = tf.reduce_sum(tf.cast(outputs, "float64") * upstream)
    return outputs, tape.gradient(loss, sources), layer.get_weights()


def assert_alike(layers, policy, x, steps=1, extra=0.0, **call):
    upstream = np.random.default_rng(5).normal(size=x.shape)
    for step in range(steps):
        batch = x * (1 + step)
        ours, theirs = (results(layer, batch, upstream, **call) for layer in layers)
        assert ours[0].dtype == theirs[0].dtype
        close(ours[0], theirs[0], OUTPUT_TOLERANCE[policy] + extra)
        for one, other in zip(ours[1], theirs[1], strict=True):
            assert one.dtype == other.dtype
            close(one, other, GRADIENT_TOLERANCE[policy] + 10 * extra)
        for one, other in zip(ours[2], theirs[2], strict=True):
            assert one.dtype == other.dtype
            close(one, other, STATISTICS_TOLERANCE[policy] + extra)


def close(one, other, tolerance):
    one, other = (np.asarray(ops.cast(value, "float64")) for value in (one, other))
    np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def batch(shape):
    return np.random.default_rng(2).normal(0.5, 2.0, shape)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", OUTPUT_TOLERANCE)
@pytest.mark.parametrize(
    ("ndim", "axis"), [(2, -1), (2, 1), (3, 2), (3, 1), (4, -1), (4, 1), (4, -2), (5, -1), (5, 1)]
)
def test_axis_rank_and_dtype(ndim, axis, policy, training):
    layers = pair(axis, policy)
    start_alike(layers, SHAPES[ndim])
    assert_alike(layers, policy, batch(SHAPES[ndim]), training=training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", OUTPUT_TOLERANCE)
@pytest.mark.parametrize(
    "mask_shape", [(4, 5), *(pytest.param(shape, marks=BROADCAST) for shape in NARROW)]
)
def test_masks(mask_shape, policy, training):
    mask = np.random.default_rng(4).uniform(size=mask_shape) < 0.6
    mask.flat[0] = True
    layers = pair(-1, policy)
    start_alike(layers, SHAPES[3])
    mask = tf.constant(mask)
    extra = MASKED_TOLERANCE
    assert_alike(layers, policy, batch(SHAPES[3]), extra=extra, training=training, mask=mask)


def test_a_mask_of_an_image_and_one_of_numbers():
    layers = pair(-1, "float32")
    start_alike(layers, SHAPES[4])
    mask = tf.constant(np.random.default_rng(4).uniform(size=(3, 4, 2)) < 0.6, "float32")
    assert_alike(
        layers, "float32", batch(SHAPES[4]), extra=MASKED_TOLERANCE, training=True, mask=mask
    )


@BROADCAST
def test_masks_of_keras_masking_layer_with_channels_first():
    # That layer leaves out the last axis, and its mask tells channels apart.
    layers = pair(1, "float32")
    start_alike(layers, (4, 3, 5))
    mask = tf.constant(np.random.default_rng(4).uniform(size=(4, 3)) < 0.6)
    x = batch((4, 3, 5))
    assert_alike(layers, "float32", x, extra=MASKED_TOLERANCE, training=True, mask=mask)


def test_a_mask_without_the_channel_axis_works_with_channels_first():
    # Keras cannot: (4, 5) fits neither its reading nor the inputs. Its channels-last layer can.
    ours, theirs = BatchNormalization(axis=1), keras.layers.BatchNormalization()
    x, mask = batch((4, 3, 5)).astype("float32"), np.random.default_rng(4).uniform(size=(4, 5))
    mask = tf.constant(mask < 0.6)
    outputs = ours(x, training=True, mask=mask)
    expected = theirs(np.moveaxis(x, 1, -1), training=True, mask=mask)
    close(outputs, np.moveaxis(expected.numpy(), -1, 1), 1e-5)
    close(ours.moving_variance, theirs.moving_variance, 1e-5)


def test_masks_that_fit_both_readings_leave_out_the_channel_axis():
    ours = BatchNormalization(axis=1, momentum=0.0)
    x = np.arange(9.0).reshape(1, 3, 3).astype("float32")
    ours(x, training=True, mask=tf.constant([[True, False, False]]))
    assert ours.moving_mean.numpy().tolist() == [0, 3, 6]


@pytest.mark.parametrize(
    "clipping", [None, {"rmax": 1.2, "rmin": 0.9, "dmax": 0.3}, {"rmax": 1.5}, {"dmax": 0.0}]
)
@pytest.mark.parametrize("policy", OUTPUT_TOLERANCE)
@needs_renorm
def test_renorm_over_several_steps(policy, clipping):
    layers = pair(-1, policy, renorm=True, renorm_clipping=clipping, renorm_momentum=0.7)
    start_alike(layers, SHAPES[3])
    # The corrections' quotients add a rounding or two at each of three steps.
    assert_alike(layers, policy, batch(SHAPES[3]), steps=3, extra=2e-6, training=True)
    assert_alike(layers, policy, batch(SHAPES[3]), training=False)


def test_moving_variance_is_the_biased_one():
    layers = pair(-1, "float64", momentum=0.0)
    x = batch((5, 2))
    for layer in layers:
        layer(x, training=True)
        close(layer.moving_variance, x.var(0), 1e-12)


@needs_renorm
def test_weights_have_keras_names_order_and_dtype():
    for policy in OUTPUT_TOLERANCE:
        layers = pair(-1, policy, renorm=True)
        start_alike(layers, (2, 3))
        described = [
            [(weight.name, weight.dtype, weight.trainable) for weight in layer.weights]
            for layer in layers
        ]
        assert described[0] == described[1]


def test_frozen_layer_runs_in_inference_mode():
    layers = pair(-1, "float32", trainable=False)
    start_alike(layers, SHAPES[3])
    assert_alike(layers, "float32", batch(SHAPES[3]), training=True)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=5),
    data=st.data(),
    options=st.fixed_dictionaries(
        {
            "momentum": st.sampled_from([0.0, 0.5, 0.99, 1.0]),
            "epsilon": st.sampled_from([1e-3, 1e-5, 1.0]),
            "center": st.booleans(),
            "scale": st.booleans(),
            **({"renorm": st.booleans()} if KERAS_HAS_RENORM else {}),
        }
    ),
    training=st.booleans(),
)
def test_any_combination_of_keras_arguments(shape, data, options, training):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1), "axis")
    mask = None
    # Keras fails on a mask where there is one channel, and reads it otherwise on other axes.
    if axis in (-1, len(shape) - 1) and shape[-1] > 1:
        mask = data.draw(st.none() | st.integers(0, 2**30), "mask seed")
    if mask is not None:
        mask = np.random.default_rng(mask).uniform(size=shape[:-1]) < 0.7
        mask.flat[0] = True
        mask = tf.constant(mask)
        options = options | {"epsilon": max(options["epsilon"], 1e-3)}
    layers = pair(axis, "float64", **options)
    start_alike(layers, shape)
    # Where one sample counts, 1 / sqrt(epsilon), up to 300, multiplies what the means differ by,
    # and gradients twice: roundings, or up to 5e-7 where Keras divides masked sums by n + 1e-7.
    extra = 1e-9 if mask is None else 1e-3
    assert_alike(layers, "float64", batch(shape), extra=extra, training=training, mask=mask)
