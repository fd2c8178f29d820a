"""What a review of the layer's kernels found, each once."""

import batch_norm_closed_form as closed_form
import keras
import numpy as np
import pytest
import tensorflow as tf
from calls import normalize_batch

from bnzoo.layers import BatchNormalization


def normal(shape, offset=0.0):
    return (np.random.default_rng(0).normal(size=shape) + offset).astype("float32")


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e3, 1e4])
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_the_fused_gradient_of_gamma_is_exact_behind_a_large_mean(mode, offset):
    # What the float32 mean rounds away is multiplied by the sum of dy, which is not zero here.
    x, dy, gamma = normal((64, 16, 16, 8), offset), normal((64, 16, 16, 8)) + 1, normal(8, 2.0)

    def step(x):
        parameters = tf.constant(gamma), tf.zeros(8)
        with tf.GradientTape() as tape:
            tape.watch((x, *parameters))
            outputs = normalize_batch(x, *parameters, implementation="fused")[0]
            loss = tf.reduce_sum(outputs * dy)
        return tape.gradient(loss, (x, *parameters))

    actual = (step if mode == "eager" else tf.function(step))(tf.constant(x))
    for one, other in zip(actual, closed_form.gradients(x, dy, gamma), strict=True):
        scale = max(1, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=3e-4 * scale)


@pytest.mark.parametrize(
    ("shape", "spec", "axis"),
    [
        ((131072, 12), (None, 12), -1),
        ((131072, 9), (None, 9), -1),
        ((65536, 3, 2), (None, 3, None), 1),
        ((8192, 16, 8), (None, None, 8), -1),
    ],
)
def test_odd_shapes_of_unknown_size_are_exact_at_a_large_mean(shape, spec, axis):
    x = normal(shape, 1e5)
    variance_of = tf.function(
        lambda x: normalize_batch(x, axis=axis)[2], input_signature=[tf.TensorSpec(spec)]
    )
    axes = tuple(np.delete(np.arange(len(shape)), axis))
    exact = x.astype("float64").var(axes)
    np.testing.assert_allclose(variance_of(x), exact, rtol=5e-4)  # promised at this offset


def test_one_dimension_is_all_channels():
    layer = BatchNormalization(momentum=0.0)
    outputs = layer(np.array([1.0, 2.0, 5.0], "float32"), training=True)
    assert outputs.numpy().tolist() == [0, 0, 0]
    assert layer.moving_mean.numpy().tolist() == [1, 2, 5]


def test_ghosts_of_no_positions_keep_their_batch():
    layer = BatchNormalization(virtual_batch_size=4)
    layer.build((None, None, 3))
    step = tf.function(
        lambda x: layer(x, training=True), input_signature=[tf.TensorSpec([None, None, 3])]
    )
    for batch in (1, 4, 6):
        assert step(tf.zeros((batch, 0, 3))).shape == (batch, 0, 3)


def test_eager_calls_of_many_shapes_trace_nothing(monkeypatch):
    monkeypatch.setattr(tf, "function", None)
    layer = BatchNormalization()
    for length in (100, 101, 102):
        layer(normal((32, length, 64)), training=True)


def test_second_order_while_functions_run_eagerly():
    x = tf.constant(normal((64, 16, 16, 8)))
    tf.config.run_functions_eagerly(True)
    try:
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(normalize_batch(x, implementation="fused")[0] ** 3)
            squares = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        assert np.isfinite(outer.gradient(squares, x)).all()
    finally:
        tf.config.run_functions_eagerly(False)


def test_numbers_of_numpy_may_be_set_after_building():
    layer = BatchNormalization()
    layer.build((None, 16, 16, 8))
    layer.epsilon = np.float32(1e-3)
    step = tf.function(lambda x: layer(x, training=True))
    assert np.isfinite(step(normal((64, 16, 16, 8)))).all()


def test_forward_mode_under_xla_with_the_sums_of_a_gpu(monkeypatch):
    monkeypatch.setattr("bnzoo.ops.kernels.on_gpu", lambda: True)
    x, along = normal((16, 16, 16, 8)), normal((16, 16, 16, 8), 1.0)

    def derivative(layer):
        layer.build(x.shape)

        @tf.function(jit_compile=True)
        def run(x, along):
            with tf.autodiff.ForwardAccumulator(x, along) as forward:
                outputs = layer(x, training=True)
            return forward.jvp(outputs)

        return run(tf.constant(x), tf.constant(along))

    ours, theirs = map(derivative, (BatchNormalization(), keras.layers.BatchNormalization()))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)  # float32 sums
