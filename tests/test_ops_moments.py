"""Statistics: hard data, masks, and the merge of parts."""

import numpy as np
import pytest
import tensorflow as tf
from calls import normalize_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from bnzoo.ops import (
    Settings,
    batch_norm,
    merge_moments,
    moments,
    statistics_dtype,
)
from bnzoo.ops.layouts import Layout


def rows(channels, **options):
    return Layout("rows", ndim=2, axis=1, channels=channels, **options)


def test_many_samples_with_a_large_mean_stay_exact():
    # 131,072 samples a channel: the plain float32 sum of these is off by 3e-2.
    x = (np.random.default_rng(0).normal(size=(131072, 8)) + 1e4).astype("float32")
    layout = rows(8, samples_per_row=64, sums="matmul")
    _, mean, centered_squares, *_ = moments(layout.to_layout(tf.constant(x)), None, layout)[0]
    exact = x.astype("float64")
    # One rounding of a float32 near 10,000 is 5e-4.
    np.testing.assert_allclose(mean, exact.mean(0), atol=6e-4, rtol=0)
    np.testing.assert_allclose(centered_squares / len(x), exact.var(0), rtol=2e-5)


@pytest.mark.parametrize("sample", ["zero", "outlier"])
def test_one_odd_sample_does_no_harm(sample):
    x = np.random.default_rng(0).normal(size=(4096, 2)) + 1e3
    x[0] = {"zero": 0.0, "outlier": 1e6}[sample]
    x = x.astype("float32")
    _, _, centered_squares, *_ = moments(tf.constant(x), None, rows(2))[0]
    # Behind the outlier's square every term of the float32 sum is rounded to a step of 65,536.
    np.testing.assert_allclose(centered_squares / len(x), x.astype("float64").var(0), rtol=1e-4)


def test_constant_data_has_no_variance():
    x = tf.fill((1000, 3), 0.1)
    outputs, mean, variance, _ = normalize_batch(x, dtype="float32")
    np.testing.assert_allclose(mean, 0.1, rtol=1e-7)
    assert np.all(variance.numpy() >= 0)
    np.testing.assert_allclose(variance, 0, atol=1e-14)  # the square of a rounding of 0.1
    np.testing.assert_allclose(outputs, 0, atol=1e-5)


def test_one_sample_is_its_own_mean():
    beta = tf.constant([3.0, 4.0])
    outputs, mean, variance, count = normalize_batch(
        tf.constant([[5.0, -7.0]]), beta=beta, dtype="float32"
    )
    assert mean.numpy().tolist() == [5, -7]
    assert variance.numpy().tolist() == [0, 0]
    assert np.all(count.numpy() == 1)
    assert outputs.numpy().tolist() == [[3, 4]]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_an_empty_batch_has_finite_statistics_and_gradients(jit_compile):
    @tf.function(jit_compile=jit_compile)
    def compute(x, gamma):
        with tf.GradientTape() as tape:
            tape.watch((x, gamma))
            outputs, mean, variance, count = batch_norm(x, gamma, None, None, Settings())
            loss = tf.reduce_sum(outputs) + tf.reduce_sum(mean) + tf.reduce_sum(variance)
        return mean, variance, count, *tape.gradient(loss, (x, gamma))

    mean, variance, count, d_inputs, d_gamma = compute(tf.zeros((0, 3)), tf.ones(3))
    for result in (mean, variance, count, d_gamma):
        assert np.all(result.numpy() == 0)
    assert d_inputs.shape == (0, 3)


def test_a_fully_masked_batch_has_zero_statistics_and_finite_outputs():
    x = tf.constant([[4.0, np.inf], [2.0, np.nan]])
    mask = tf.constant([[False], [False]])
    outputs, mean, variance, count = normalize_batch(x, mask=mask, dtype="float32")
    for result in (mean, variance, count):
        assert np.all(result.numpy() == 0)
    assert np.isfinite(outputs.numpy()[:, 0]).all()


def test_padding_may_hold_anything():
    x = tf.constant([[[1.0], [3.0], [np.nan]], [[5.0], [np.inf], [-np.inf]]])
    mask = tf.constant([[[True], [True], [False]], [[True], [False], [False]]])
    outputs, mean, variance, count = normalize_batch(x, mask=mask, dtype="float32")
    assert (float(mean[0]), float(count[0])) == (3, 3)
    np.testing.assert_allclose(variance, [8 / 3], rtol=1e-6)
    assert np.isfinite(outputs.numpy()[mask.numpy()]).all()


def test_a_mask_of_numbers_counts_each_sample_once():
    x = tf.constant([[1.0], [3.0], [100.0]])
    _, mean, _, count = normalize_batch(x, mask=tf.constant([[2.0], [0.5], [0.0]]), dtype="float32")
    assert (float(mean[0]), float(count[0])) == (2, 2)


def test_infinite_and_missing_values_show_in_their_channel_only():
    x = tf.constant([[1.0, np.nan, np.inf], [3.0, 2.0, 2.0]])
    outputs, mean, _, _ = batch_norm(x, None, None, None, Settings(epsilon=0.0))
    assert outputs.numpy()[:, 0].tolist() == [-1, 1]
    assert np.isnan(outputs.numpy()[:, 1:]).all()
    assert float(mean[0]) == 2


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int32", "float32"),
    ],
)
def test_statistics_are_at_least_float32(dtype, expected):
    assert statistics_dtype(dtype) == expected


def test_float16_does_not_overflow():
    x = ops.cast([[60000.0], [60000.0], [-60000.0], [-60000.0]], "float16")
    outputs, mean, variance, _ = normalize_batch(x, dtype="float16")
    assert float(mean[0]) == 0
    np.testing.assert_allclose(variance, [60000.0**2], rtol=1e-3)  # float16 rounds 60,000
    assert outputs.numpy().ravel().tolist() == [1, 1, -1, -1]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    offset=st.sampled_from([0.0, 1e2, 1e4]),
    seed=st.integers(0, 1000),
)
def test_merging_parts_equals_taking_the_whole(sizes, offset, seed):
    random = np.random.default_rng(seed)
    parts = [(random.normal(size=(size, 3)) + offset).astype("float32") for size in sizes]
    parts_of = [moments(tf.constant(part), None, rows(3))[0] for part in parts]
    counts = tf.stack([tf.broadcast_to(row.count, [3]) for row in parts_of])
    means, squares = (tf.stack(list(column)) for column in list(zip(*parts_of, strict=True))[1:3])
    count, mean, centered_squares = merge_moments(counts, means, squares)
    whole = np.concatenate(parts).astype("float64")
    np.testing.assert_array_equal(count, [len(whole)] * 3)
    expected = whole.mean(0) if len(whole) else np.zeros(3)
    # Each part's mean is a float32 near the offset, wrong by up to 6e-8 of it.
    rounding = 1e-6 + 1.2e-7 * offset
    np.testing.assert_allclose(mean, expected, rtol=0, atol=rounding)
    centered = ((whole - expected) ** 2).sum(0)
    np.testing.assert_allclose(
        centered_squares, centered, rtol=1e-5, atol=len(whole) * (6 * rounding + rounding**2)
    )
