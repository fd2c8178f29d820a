"""Moving averages, the unbiased variance, inference and renorm corrections by hand."""

import numpy as np
import pytest
import tensorflow as tf

from bnzoo.ops import Settings, infer, unbiased_variance
from bnzoo.ops.moving import (
    cumulative_rate,
    has_statistics,
    moving_average,
    renorm_corrections,
    renorm_moving_variance,
)


@pytest.mark.parametrize(("momentum", "expected"), [(0.0, 3.0), (0.9, 1.2), (1.0, 1.0)])
def test_momentum_is_the_share_that_is_kept(momentum, expected):
    assert moving_average(1.0, 3.0, 1 - momentum) == pytest.approx(expected)


def test_without_momentum_every_batch_weighs_the_same():
    values, average, num_batches = [4.0, 1.0, 7.0, 12.0], 99.0, tf.constant(0.0)
    for value in values:
        rate, num_batches = cumulative_rate(tf.constant(True), num_batches)
        average = moving_average(average, value, rate)
    assert float(average) == pytest.approx(6.0)
    assert float(num_batches) == 4


@pytest.mark.parametrize(("valid", "expected"), [([False, False], 3), ([False, True], 4)])
def test_a_batch_without_statistics_is_not_counted(valid, expected):
    _, num_batches = cumulative_rate(tf.constant(valid), tf.constant(3.0))
    assert float(num_batches) == expected


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_channel_that_is_not_finite_spoils_all_of_them(bad):
    assert not has_statistics(tf.constant([1.0, bad]), tf.constant(8.0))
    assert not np.any(has_statistics(tf.constant([1.0, bad]), tf.constant([8.0, 8.0])))


def test_a_channel_without_samples_keeps_to_itself():
    valid = has_statistics(tf.constant([3.0, 4.0]), tf.constant([0.0, 8.0]))
    assert valid.numpy().tolist() == [False, True]


def test_finite_statistics_are_followed():
    assert np.all(has_statistics(tf.constant([0.0, 3e38]), tf.constant([8.0, 1.0])))


@pytest.mark.parametrize(("count", "factor"), [(0.0, 1.0), (1.0, 1.0), (2.0, 2.0), (22.0, 22 / 21)])
def test_unbiased_variance_divides_by_one_less(count, factor):
    variance = unbiased_variance(tf.constant([3.0, 6.0]), tf.constant([count, count]))
    np.testing.assert_allclose(variance, [3 * factor, 6 * factor], rtol=1e-6)  # one rounding


def test_inference_subtracts_before_it_scales():
    # x * scale and mean * scale are near 3e6, where a float32 step is 0.25.
    x = tf.constant([[100000.5], [99999.5]])
    mean, variance = tf.constant([100000.0]), tf.constant([1e-3])
    outputs = infer(x, mean, variance, None, None, Settings(epsilon=0.0))
    expected = np.array([[0.5], [-0.5]]) / np.sqrt(np.float32(1e-3))
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_inference_along_any_axis(axis):
    random = np.random.default_rng(0)
    x, channels = random.normal(size=(2, 3, 4)), (2, 3, 4)[axis]
    mean, gamma, beta = random.normal(size=(3, channels))
    variance = random.uniform(size=channels)
    tensors = [tf.constant(array) for array in (x, mean, variance, gamma, beta)]
    outputs = infer(*tensors, Settings(axis, 1e-3, "float64"))
    last = np.moveaxis(x, axis, -1)
    expected = np.moveaxis((last - mean) / np.sqrt(variance + 1e-3) * gamma + beta, -1, axis)
    np.testing.assert_allclose(outputs, expected, rtol=1e-10, atol=1e-12)  # float64


def corrections(clipping, mean=6.0, variance=15.0, moving_mean=1.0, moving_stddev=2.0):
    arguments = (tf.constant([value]) for value in (mean, variance, moving_mean, moving_stddev))
    r, d = renorm_corrections(*arguments, epsilon=1.0, clipping=clipping)
    return float(r[0]), float(d[0])


@pytest.mark.parametrize(
    ("clipping", "expected"),
    [
        ({}, (2.0, 2.5)),
        ({"rmax": 1.5}, (1.5, 2.5)),
        ({"rmin": 3.0}, (3.0, 2.5)),
        ({"dmax": 1.0}, (2.0, 1.0)),
        ({"rmax": None, "rmin": 0.5, "dmax": 0.0}, (2.0, 0.0)),
    ],
)
def test_renorm_corrections_are_clipped(clipping, expected):
    assert corrections(clipping) == expected


def test_renorm_clips_both_signs_of_d():
    assert corrections({"dmax": 1.0}, mean=-9.0) == (2.0, -1.0)


def test_renorm_does_not_divide_by_an_untrained_average():
    assert corrections({}, moving_stddev=0.0) == (4.0, 5.0)  # epsilon's root, 1, stands in


def test_no_gradient_flows_through_the_corrections():
    mean = tf.constant([6.0])
    with tf.GradientTape() as tape:
        tape.watch(mean)
        r, d = renorm_corrections(
            mean, tf.square(mean), tf.ones(1), tf.ones(1), epsilon=1.0, clipping={}
        )
        total = r + d
    assert tape.gradient(total, mean) is None


def test_renorm_variance_is_never_negative():
    variance = renorm_moving_variance(tf.constant([0.5, 2.0]), epsilon=1.0)
    assert variance.numpy().tolist() == [0.0, 3.0]
