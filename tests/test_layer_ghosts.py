"""Ghost batches: each `virtual_batch_size` examples are a batch of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import thinned

from bnzoo.layers import BatchNormalization

MODES = {
    "eager": lambda step, specs: step,
    "unknown": lambda step, specs: tf.function(step, input_signature=specs),
    "jit_compile": lambda step, specs: tf.function(step, jit_compile=True),
}
WAYS = [("auto", mode) for mode in MODES] + [("reference", "eager"), ("reference", "unknown")]
WAYS += [("xla", "eager"), ("xla", "unknown")]
CASES = {
    # batch, ghost, shape of an example, further arguments, masked
    "even": (8, 4, (3, 5), {}, False),
    "remainder": (7, 3, (3, 5), {}, False),
    "remainder_of_one": (7, 2, (2, 2, 4), {}, False),
    "smaller_than_a_ghost": (3, 8, (5,), {}, False),
    "one_ghost": (4, 4, (5,), {}, False),
    "unbiased": (7, 3, (3, 5), {"unbiased_moving_variance": True}, False),
    "channels_first": (7, 3, (5, 3, 2), {"axis": 1}, False),
    "masked": (7, 3, (3, 5), {}, True),
    "masked_channels_first": (7, 3, (5, 3), {"axis": 1}, True),
    "masked_unbiased": (7, 3, (3, 5), {"unbiased_moving_variance": True}, True),
    "nothing_to_learn": (7, 3, (3, 5), {"center": False, "scale": False}, False),
}


def expected_of(x, mask, ghost, arguments):
    """Run a plain layer on each ghost, and average its statistics by their counts."""
    outputs, statistics, counts = [], [], []
    for start in range(0, len(x), ghost):
        part = x[start : start + ghost]
        counted = None if mask is None else mask[start : start + ghost]
        layer = BatchNormalization(**arguments | {"momentum": 0.0, "implementation": "reference"})
        outputs.append(layer(part, training=True, mask=counted).numpy())
        channels = x.shape[layer.axis]
        count = part.size / channels if mask is None else counted.sum()
        counts.append(count)
        statistics.append([layer.moving_mean.numpy(), layer.moving_variance.numpy()])
    weighted = [np.average([row[i] for row in statistics], 0, counts) for i in range(2)]
    return np.concatenate(outputs), *weighted


@pytest.mark.parametrize(
    ("name", "implementation", "mode"), thinned(CASES, WAYS, ("remainder", "masked_unbiased"))
)
def test_it_equals_running_each_ghost_alone(name, implementation, mode):
    batch, ghost, example, arguments, masked = CASES[name]
    random = np.random.default_rng(0)
    x = random.normal(3.0, 2.0, (batch, *example)).astype("float32")
    mask, specs = None, [tf.TensorSpec([None, *example])]
    if masked:
        mask = random.uniform(size=(batch, 3)) < 0.7
        mask[:, 0] = True
        specs.append(tf.TensorSpec([None, 3], tf.bool))
    options = arguments | {"implementation": implementation, "virtual_batch_size": ghost}
    layer = BatchNormalization(momentum=0.0, **options)
    layer.build((None, *example))

    def step(x, mask=None):
        return layer(x, training=True, mask=mask)

    given = [tf.constant(x)] if mask is None else [tf.constant(x), tf.constant(mask)]
    actual = MODES[mode](step, specs)(*given)
    outputs, mean, variance = expected_of(x, mask, ghost, arguments)
    # float32 sums in another order.
    np.testing.assert_allclose(actual, outputs, atol=2e-5)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)


def test_one_trace_serves_every_batch_size():
    layer = BatchNormalization(virtual_batch_size=4, momentum=0.0)
    layer.build((None, 3))
    step = tf.function(
        lambda x: layer(x, training=True), input_signature=[tf.TensorSpec([None, 3])]
    )
    for batch in (1, 3, 4, 5, 8, 11):
        x = np.random.default_rng(batch).normal(size=(batch, 3)).astype("float32")
        outputs, mean, variance = expected_of(x, None, 4, {})
        np.testing.assert_allclose(step(x), outputs, atol=2e-5)
        np.testing.assert_allclose(layer.moving_mean, mean, atol=1e-6)
        np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5, atol=1e-7)


def test_a_broadcast_mask_counts_in_every_ghost():
    x = np.random.default_rng(0).normal(size=(7, 3, 5)).astype("float32")
    mask = np.array([[True, False, True]])
    layer = BatchNormalization(virtual_batch_size=3, momentum=0.0)
    outputs = layer(x, training=True, mask=tf.constant(mask))
    expected, mean, variance = expected_of(x, np.repeat(mask, 7, 0), 3, {})
    np.testing.assert_allclose(outputs, expected, atol=2e-5)
    np.testing.assert_allclose(layer.moving_mean, mean, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)


def test_inference_knows_no_ghosts():
    layer = BatchNormalization(virtual_batch_size=2)
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    np.testing.assert_array_equal(layer(x), BatchNormalization()(x))


def test_float16_outputs_of_ghosts():
    layer = BatchNormalization(virtual_batch_size=3, dtype="mixed_float16")
    x = np.random.default_rng(0).normal(size=(7, 4)).astype("float16")
    outputs = layer(x, training=True)
    assert outputs.dtype == tf.float16
    # One rounding to float16 of outputs up to 2.
    np.testing.assert_allclose(outputs, expected_of(x, None, 3, {})[0], atol=2e-3)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_with_ghosts_and_an_uneven_last_batch(jit_compile):
    random = np.random.default_rng(0)
    x = random.normal(2.0, 3.0, (19, 4)).astype("float32")
    layer = BatchNormalization(virtual_batch_size=4, momentum=0.0)
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=jit_compile)
    history = model.fit(x, x[:, :1], batch_size=8, epochs=3, shuffle=False, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    # The last batch: three examples.
    np.testing.assert_allclose(layer.moving_mean, x[16:].mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, x[16:].var(0), rtol=1e-5)


def test_ghosts_along_the_channel_axis_are_refused():
    with pytest.raises(ValueError, match=r"Received axis=0 with virtual_batch_size"):
        BatchNormalization(axis=0, virtual_batch_size=2).build((4, 3))
