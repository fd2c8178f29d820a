"""Masks of every shape that broadcasts, along any axis, by every way, against float64."""

import numpy as np
import pytest
import tensorflow as tf
from batch_norm_reference import batch_norm
from marks import thinned

from bnzoo.layers import BatchNormalization

CASES = {
    # inputs, axis, mask
    "matrix": ((7, 3), -1, (7,)),
    "sequence": ((4, 5, 3), -1, (4, 5)),
    "same_in_every_example": ((4, 5, 3), -1, (1, 5)),
    "same_at_every_step": ((4, 5, 3), -1, (4, 1)),
    "everything_counts": ((4, 5, 3), -1, (1, 1)),
    "image": ((3, 4, 2, 3), -1, (3, 4, 2)),
    "image_by_row": ((3, 4, 2, 3), -1, (3, 4, 1)),
    "volume": ((2, 3, 2, 2, 3), -1, (2, 3, 2, 2)),
    "six_dimensions": ((2, 3, 2, 2, 2, 3), -1, (2, 3, 2, 2, 2)),
    "channels_first": ((4, 3, 5), 1, (4, 5)),
    "channels_first_image": ((4, 3, 5, 2), 1, (4, 5, 2)),
    "channels_between": ((4, 5, 3, 2), 2, (4, 5, 2)),
    "channels_at_the_batch": ((3, 4, 5), 0, (4, 5)),
    "one_channel": ((4, 5, 1), -1, (4, 5)),
    "one_channel_first": ((4, 1, 5), 1, (4, 5)),
}
MODES = {
    "eager": lambda step, specs: step,
    "static": lambda step, specs: tf.function(step),
    "unknown": lambda step, specs: tf.function(step, input_signature=specs),
    "jit_compile": lambda step, specs: tf.function(step, jit_compile=True),
}
WAYS = [("auto", mode) for mode in MODES] + [("reference", "unknown"), ("xla", "eager")]
WAYS += [("xla", "unknown")]


@pytest.mark.parametrize(
    ("name", "implementation", "mode"),
    thinned(CASES, WAYS, ("sequence", "image_by_row", "channels_first", "one_channel")),
)
def test_only_what_the_mask_lets_through_counts(name, implementation, mode):
    shape, axis, mask_shape = CASES[name]
    random = np.random.default_rng(0)
    x = random.normal(2.0, 3.0, shape).astype("float32")
    mask = random.uniform(size=mask_shape) < 0.6
    mask.flat[0] = True
    layer = BatchNormalization(axis, momentum=0.0, implementation=implementation)
    layer.build(shape)

    def step(x, mask):
        return layer(x, training=True, mask=mask)

    def unknown(of):
        # The batch where it is one; not the channels, and not a size of 1 that broadcasts.
        return [None if i == 0 and size > 1 and axis != 0 else size for i, size in enumerate(of)]

    specs = [tf.TensorSpec(unknown(shape)), tf.TensorSpec(unknown(mask_shape), tf.bool)]
    outputs = MODES[mode](step, specs)(tf.constant(x), tf.constant(mask))
    counted = np.expand_dims(mask, axis)
    channels = np.ones(shape[axis])
    expected = batch_norm(x.astype("float64"), channels, 0 * channels, counted, axis)
    # float32 sums of a few dozen numbers.
    for one, other in zip(
        (outputs, layer.moving_mean, layer.moving_variance), expected, strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("implementation", ["auto", "reference", "xla"])
@pytest.mark.parametrize("synchronized", [False, True])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_padding_may_hold_anything_and_harms_no_gradient(garbage, synchronized, implementation):
    random = np.random.default_rng(0)
    x = random.normal(size=(4, 5, 3)).astype("float32")
    mask = random.uniform(size=(4, 5)) < 0.6
    results = []
    for value in (0, garbage):
        x[~mask] = value
        layer = BatchNormalization(
            momentum=0.0, implementation=implementation, synchronized=synchronized
        )
        tensor = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            outputs = layer(tensor, training=True, mask=tf.constant(mask))
            counted = tf.boolean_mask(outputs, mask)
            loss = tf.reduce_sum(counted**3)
        gradients = [tape.gradient(loss, tensor)]
        results.append([counted, *gradients, *layer.non_trainable_variables])
    for one, other in zip(*results, strict=True):
        assert np.isfinite(np.asarray(other)).all()
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_masks_of_an_exported_model_do_not_reach_inference():
    layer = BatchNormalization()
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")
    mask = tf.constant(np.arange(20).reshape(4, 5) % 2 == 0)
    np.testing.assert_array_equal(layer(x, mask=mask), layer(x))
