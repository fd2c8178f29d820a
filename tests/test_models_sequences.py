"""Padded steps stay out of the statistics, the pooling, the logits and the gradients."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnzoo.models import MaskedAveragePooling, ValidSteps, build

FEATURES = 4
PADDING = -1.0
# float32 sums of the same numbers in another order
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def sequences(lengths):
    generator = np.random.default_rng(7)
    return [generator.random((length, FEATURES), dtype="float32") for length in lengths]


def padded(samples, steps):
    batch = np.full((len(samples), steps, FEATURES), PADDING, "float32")
    for row, sample in zip(batch, samples, strict=True):
        row[: len(sample)] = sample
    return batch


def classifier(steps, placement="before", **parameters):
    """The same weights whatever `steps`, as the seed is the same."""
    keras.utils.set_random_seed(2)
    shape = (steps, FEATURES)
    settings = {"classes": 3, "filters": [5], "initialization": "torch", **parameters}
    return build("conv1d", placement, input_shape=shape, **settings)


def train_step(model, x):
    """One step; returns the loss, the gradients before it and all weights after it."""
    y = np.arange(len(x)) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.5)
    with tf.GradientTape() as tape:
        value = loss(y, model(x, training=True))
    gradients = tape.gradient(value, model.trainable_weights)
    optimizer.apply(gradients, model.trainable_weights)
    return [value.numpy(), *[g.numpy() for g in gradients], *model.get_weights()]


@pytest.mark.parametrize("placement", ["none", "before", "after"])
@pytest.mark.parametrize("unknown_length", [False, True])
def test_padding_changes_nothing(placement, unknown_length):
    samples = sequences([6] * 8)
    short = classifier(None if unknown_length else 6, placement)
    long = classifier(None if unknown_length else 11, placement)
    x_short, x_long = padded(samples, 6), padded(samples, 11)
    for a, b in zip(train_step(short, x_short), train_step(long, x_long), strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)
    np.testing.assert_allclose(short(x_short), long(x_long), **CLOSE)


def test_statistics_are_those_of_all_windows_of_real_steps():
    samples = sequences([3, 5, 9, 1, 2, 7])
    model = classifier(None, batch_norm={"momentum": 0})
    model(padded(samples, 12), training=True)
    convolution, normalization = model.get_layer("conv_1"), model.get_layer("bn_1")
    windows = [convolution(s[np.newaxis])[0].numpy() for s in samples if len(s) >= 3]
    windows = np.concatenate(windows).astype("float64")
    assert len(windows) == 1 + 3 + 7 + 5
    np.testing.assert_allclose(normalization.moving_mean, windows.mean(axis=0), **CLOSE)
    np.testing.assert_allclose(normalization.moving_variance, windows.var(axis=0), **CLOSE)


def test_each_sequence_alone_gives_the_logits_it_has_in_a_batch():
    samples = sequences([3, 5, 9, 2])
    model = classifier(None)
    together = model(padded(samples, 9))
    for sample, logits in zip(samples, together, strict=True):
        np.testing.assert_allclose(model(sample[np.newaxis])[0], logits, **CLOSE)


@pytest.mark.parametrize("placement", ["none", "before", "after"])
def test_sequences_shorter_than_the_kernel_give_the_logits_of_zeros(placement):
    samples = sequences([2, 1, 0, 6])
    model = classifier(None, placement)
    results = train_step(model, padded(samples, 6))
    assert all(np.isfinite(result).all() for result in results)
    logits = model(padded(samples, 6))
    bias = model.get_layer("logits").bias
    np.testing.assert_allclose(logits[:3], np.tile(bias, (3, 1)), **CLOSE)
    # Alone, in a batch that is itself shorter than the kernel; even without any step.
    for sample in samples[:3]:
        np.testing.assert_allclose(model(sample[np.newaxis])[0], bias, **CLOSE)


@pytest.mark.parametrize("kernel_size", [1, 2, 5])
def test_mask_is_as_long_as_the_output_of_the_convolution(kernel_size):
    model = classifier(9, kernel_size=kernel_size)
    assert model.get_layer("valid_steps").output.shape == (None, 10 - kernel_size)
    assert model.get_layer("conv_1").output.shape[1] == 10 - kernel_size
    mask = model.get_layer("valid_steps")(padded(sequences([9, 6, 0]), 9))
    expected = [max(0, length - kernel_size + 1) for length in (9, 6, 0)]
    assert np.sum(mask, axis=1).tolist() == expected


def test_a_padded_step_within_a_sequence_hides_every_window_that_touches_it():
    x = padded(sequences([8]), 8)
    x[0, 4] = PADDING
    mask = ValidSteps(kernel_size=3, mask_value=PADDING)(x)
    assert mask.numpy().tolist() == [[True, True, False, False, False, True]]


def test_a_step_is_padding_only_when_all_its_features_are():
    x = padded(sequences([4]), 4)
    x[0, 1, :-1] = PADDING
    assert ValidSteps(kernel_size=1, mask_value=PADDING)(x).numpy().all()


@pytest.mark.parametrize("mask_value", [0.1, 0.0, 255.0])
def test_mask_value_is_found_in_mixed_precision(mask_value):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = classifier(None, mask_value=mask_value)
        sample = sequences([5])[0]
        # Real, although float16 cannot tell it from the mask value.
        sample[4] = mask_value * (1 + 1e-6) + 1e-9
        longer = np.full((1, 9, FEATURES), mask_value, "float32")
        longer[0, :5] = sample
        assert np.sum(model.get_layer("valid_steps")(longer)) == 3
        # float16 keeps 11 bits.
        np.testing.assert_allclose(model(sample[np.newaxis]), model(longer), rtol=1e-3, atol=1e-3)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_values_at_padded_steps_do_not_reach_the_pooling():
    x = np.ones((1, 3, 2), "float32")
    x[0, 2] = [np.nan, np.inf]
    pooled = MaskedAveragePooling()(x, mask=np.array([[True, True, False]]))
    assert pooled.numpy().tolist() == [[1, 1]]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_batches_of_different_lengths_train_one_model(jit_compile):
    model = classifier(None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="sgd", loss=loss, jit_compile=jit_compile)
    for steps in (2, 7):
        batch = padded(sequences([2, 1, min(steps, 6), 2]), steps)
        assert np.isfinite(model.train_on_batch(batch, np.array([0, 1, 2, 0])))
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_building_and_calling_the_classifier_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = classifier(None)
        model(padded(sequences([3, 5]), 8), training=True)
