"""What reviews and benchmarks found, each once."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from calls import normalize_batch
from marks import needs_renorm

from bnzoo.layers import BatchNormalization


def normal(shape, offset=0.0, scale=1.0, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) * scale + offset).astype("float32")


def test_momentum_of_zero_forgets_even_huge_averages():
    # average + (value - average) would leave the rounding of a million.
    layer = BatchNormalization(momentum=0.0)
    layer(normal((64, 3), 1e6), training=True)
    x = normal((64, 3), 1e-3, 1e-5)
    layer(x, training=True)
    exact = x.astype("float64")
    np.testing.assert_allclose(layer.moving_mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, exact.var(0), rtol=1e-4)


def test_the_first_batch_of_a_cumulative_average_is_the_average():
    layer = BatchNormalization(momentum=None)
    x = normal((64, 3), 0.0, 1e-5)
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_variance, x.astype("float64").var(0), rtol=1e-4)


def test_the_counter_of_a_cumulative_average_counts_in_float32_at_least():
    layer = BatchNormalization(momentum=None, dtype="bfloat16")
    layer.build((None, 2))
    layer.num_batches.assign(256.0)
    layer(normal((4, 2)), training=True)
    assert float(layer.num_batches) == 257


@needs_renorm
@pytest.mark.parametrize("shape", [(64, 4), (64, 16, 16, 8)])
def test_renorm_keeps_the_other_channels_of_a_bad_batch_as_keras_does(shape):
    x = normal(shape, 5.0, 3.0)
    x.reshape(-1, shape[-1])[0, 0] = np.nan
    ours, theirs = BatchNormalization(renorm=True), keras.layers.BatchNormalization(renorm=True)
    outputs, expected = ours(x, training=True), theirs(x, training=True)
    assert np.isnan(outputs.numpy()[..., 0]).all()
    # float32 sums in another order, times corrections of about 3.
    np.testing.assert_allclose(outputs[..., 1:], expected[..., 1:], rtol=1e-4, atol=1e-4)
    assert ours.moving_mean.numpy().tolist() == [0.0] * shape[-1]
    assert ours.renorm_stddev.numpy().tolist() == [1.0] * shape[-1]


def test_implementation_for_judges_what_the_call_will_see():
    x = np.zeros((32, 32, 32, 16))  # float64, cast by the layer
    assert BatchNormalization().implementation_for(x).implementation == "fused"
    forced = BatchNormalization(implementation="fused")
    assert forced.implementation_for(x).implementation == "fused"
    half = BatchNormalization(dtype="mixed_float16")
    inputs = keras.Input((16, 16, 16), batch_size=32)
    assert half.implementation_for(inputs).implementation == "reference"
    with pytest.raises(ValueError, match="axis=5"):
        BatchNormalization(axis=5).implementation_for(x)


def test_a_mask_for_all_examples_may_be_known_only_at_run_time():
    layer = BatchNormalization(virtual_batch_size=4, momentum=0.0)
    specs = [tf.TensorSpec([None, 5, 3]), tf.TensorSpec([None, 5], tf.bool)]
    step = tf.function(lambda x, mask: layer(x, training=True, mask=mask), input_signature=specs)
    x, mask = normal((8, 5, 3)), np.array([[True, True, False, True, False]])
    step(x, mask)
    np.testing.assert_allclose(layer.moving_mean, x[:, mask[0]].mean((0, 1)), atol=1e-6)


def test_the_mask_of_keras_masking_is_known_where_the_length_is_not():
    layer = BatchNormalization(axis=1, momentum=0.0)
    specs = [tf.TensorSpec([None, 8, None]), tf.TensorSpec([None, 8], tf.bool)]
    step = tf.function(lambda x, mask: layer(x, training=True, mask=mask), input_signature=specs)
    x, mask = normal((4, 8, 5)), np.ones((4, 8), bool)
    mask[0, 3] = False
    step(x, mask)
    np.testing.assert_allclose(layer.moving_mean[3], x[1:, 3].mean(), atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_a_single_layer_of_known_shape_trains_in_a_graph(offset):
    # Grappler made one AddN of the additions in the second branch, whose temporary variable failed.
    layer = BatchNormalization(momentum=0.0)
    x = normal((32, 16, 16, 16), offset)
    layer.build(x.shape)

    @tf.function(input_signature=[tf.TensorSpec(x.shape)])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            loss = tf.reduce_sum(outputs**3)
        return tape.gradient(loss, [x, layer.gamma.value])

    for _ in range(2):
        assert all(np.isfinite(gradient).all() for gradient in step(x))
    exact = x.astype("float64")
    np.testing.assert_allclose(layer.moving_mean, exact.mean((0, 1, 2)), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "axis"), [((3641, 6, 6, 17), -1), ((131072, 16, 1), 1), ((131072, 8), -1)]
)
def test_a_large_mean_of_many_samples_is_exact_with_an_unknown_batch(shape, axis):
    x = normal(shape, 1e5)
    exact, axes = x.astype("float64"), tuple(np.delete(np.arange(len(shape)), axis))
    compute = tf.function(
        lambda x: normalize_batch(x, axis=axis), input_signature=[tf.TensorSpec((None, *shape[1:]))]
    )
    outputs, _, variance, _ = compute(x)
    # What the layer promises at this offset; a plain float32 sum is off by 1e-1.
    np.testing.assert_allclose(variance, exact.var(axes), rtol=5e-4)
    mean, variance = exact.mean(axes, keepdims=True), exact.var(axes, keepdims=True)
    np.testing.assert_allclose(outputs, (exact - mean) / np.sqrt(variance + 1e-3), atol=2e-2)
