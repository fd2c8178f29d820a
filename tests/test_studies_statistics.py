"""What a few seeds say, against numbers worked out by hand and by SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from bnzoo.reporting import formatting
from bnzoo.studies.statistics import describe, first_epoch_reaching, paired_difference, sentence


def test_mean_and_standard_deviation_by_hand():
    # Deviations -1, 0, 1: the sum of squares is 2, divided by n - 1 = 2.
    assert describe([2.0, 3.0, 4.0]) == {"n": 3, "mean": 3.0, "std": 1.0, "values": [2, 3, 4]}


def test_values_that_were_not_measured_keep_their_place_and_do_not_count():
    assert describe([None, 3.0, 5.0]) == {
        "n": 2,
        "mean": 4.0,
        "std": pytest.approx(math.sqrt(2)),
        "values": [None, 3.0, 5.0],
    }


def test_one_value_has_no_spread_and_none_has_no_mean():
    assert describe([0.5]) == {"n": 1, "mean": 0.5, "std": None, "values": [0.5]}
    assert describe([None]) == {"n": 0, "mean": None, "std": None, "values": [None]}


def test_the_interval_by_hand():
    found = paired_difference([3.0, 5.0, 7.0], [1.0, 2.0, 3.0])
    # Differences 2, 3, 4: mean 3, std 1; t(0.975; 2) is 4.302653 in any table.
    half = 4.302653 / math.sqrt(3)
    assert found.values == (2.0, 3.0, 4.0)
    assert (found.num_seeds, found.mean) == (3, 3.0)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert found.is_settled


def test_the_summary_of_a_difference():
    found = paired_difference([3.0, 5.0, 7.0], [1.0, 2.0, 3.0])
    assert found.summary() == {
        "n": 3,
        "mean": 3.0,
        "std": 1.0,
        "values": [2.0, 3.0, 4.0],
        "interval": [found.low, found.high],
        "level": 0.95,
    }


@pytest.mark.parametrize(("count", "ratio"), [(3, 2.49), (5, 1.25)])
def test_how_large_a_difference_the_seeds_can_settle(count, ratio):
    """With 3 seeds it must be 2.5 standard deviations of the differences, with 5 only 1.24."""
    noise = np.linspace(-1, 1, count)
    noise /= np.std(noise, ddof=1)
    for factor, expected in ((0.99, False), (1.01, True)):
        values = ratio * factor + noise
        assert paired_difference(list(values), [0.0] * count).is_settled == expected


def test_the_interval_is_the_one_of_the_textbook():
    generator = np.random.default_rng(4)
    values, baseline = generator.normal(0.95, 0.01, 7), generator.normal(0.94, 0.01, 7)
    differences = values - baseline
    half = stats.t.ppf(0.975, 6) * differences.std(ddof=1) / math.sqrt(7)
    found = paired_difference(list(values), list(baseline))
    expected = (differences.mean() - half, differences.mean() + half)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_pairs_with_a_missing_half_are_left_out():
    found = paired_difference([0.9, None, 0.8, 0.7], [0.8, 0.8, None, 0.5])
    assert found.values == (pytest.approx(0.1), None, None, pytest.approx(0.2))
    assert found.num_seeds == 2


def test_fewer_than_two_pairs_have_no_interval_and_settle_nothing():
    one, none = paired_difference([0.9], [0.8]), paired_difference([0.9, None], [None, 0.8])
    assert (one.low, one.is_settled, one.num_seeds) == (None, False, 1)
    assert (none.mean, none.is_settled, none.num_seeds) == (None, False, 0)
    assert one.summary()["interval"] is None


def test_equal_runs_have_an_interval_without_width():
    found = paired_difference([0.9, 0.8], [0.9, 0.8])
    assert (found.low, found.high, found.is_settled) == (0.0, 0.0, False)


@pytest.mark.parametrize(
    ("values", "metric", "expected"),
    [
        ([0.045, 0.036, 0.054], "accuracy", "+4.5 points [2.3, 6.7] (95 % interval, 3 seeds)"),
        ([-0.045, -0.036, -0.054], "accuracy", "-4.5 points [-6.7, -2.3] (95 % interval, 3 seeds)"),
        (
            [0.0353, 0.0594, 0.0835],
            "accuracy",
            "+5.9 points, higher in 3 of 3 seeds; 3 seeds do not settle it "
            "(95 % interval [-0.05, 11.93])",
        ),
        (
            [-0.2, 0.1],
            "val_loss",
            "-0.05, higher in 1 of 2 seeds; 2 seeds do not settle it (95 % interval [-1.96, 1.86])",
        ),
        ([0.0, 0.0], "accuracy", "equal in all 2 seeds"),
        ([0.045, None], "accuracy", "+4.5 points with one seed, which settles nothing"),
    ],
)
def test_what_is_said_of_a_difference(values, metric, expected):
    difference = paired_difference(values, [0.0] * len(values))
    assert sentence(difference, metric) == expected.replace("-", formatting.MINUS)


def test_seeds_of_both_must_be_the_same_number():
    with pytest.raises(ValueError, match="zip"):
        paired_difference([0.9, 0.8], [0.9])


def test_the_first_epoch_that_reaches_a_target():
    values = (None, 0.0, 0.5, math.nan, 0.7)
    rows = [{"epoch": number, "accuracy": one} for number, one in enumerate(values, start=1)]
    assert [first_epoch_reaching(rows, "accuracy", target) for target in (0.0, 0.5, 0.6, 0.8)] == [
        2,
        3,
        5,
        None,
    ]


def test_a_loss_reaches_a_target_from_above():
    rows = [{"epoch": number, "val_loss": one} for number, one in enumerate((3.0, 1.0, 0.5), 1)]
    assert first_epoch_reaching(rows, "val_loss", 1.0) == 2
