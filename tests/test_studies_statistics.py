"""What a few seeds say, against numbers worked out by hand and by SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from bnzoo.studies.statistics import describe, first_epoch_reaching, paired_difference


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
    assert found["values"] == [2.0, 3.0, 4.0]
    assert (found["n"], found["mean"], found["std"], found["level"]) == (3, 3.0, 1.0, 0.95)
    assert found["interval"] == pytest.approx([3 - half, 3 + half], abs=1e-5)


def test_the_interval_is_the_one_of_scipys_paired_test():
    generator = np.random.default_rng(4)
    values, baseline = generator.normal(0.95, 0.01, 7), generator.normal(0.94, 0.01, 7)
    expected = stats.ttest_rel(values, baseline).confidence_interval(0.95)
    found = paired_difference(list(values), list(baseline))
    assert found["interval"] == pytest.approx([expected.low, expected.high], rel=1e-9)


def test_pairs_with_a_missing_half_are_left_out():
    found = paired_difference([0.9, None, 0.8, 0.7], [0.8, 0.8, None, 0.5])
    assert found["values"] == [pytest.approx(0.1), None, None, pytest.approx(0.2)]
    assert found["n"] == 2


def test_fewer_than_two_pairs_have_no_interval():
    assert paired_difference([0.9], [0.8])["interval"] is None
    assert paired_difference([0.9, None], [None, 0.8])["n"] == 0


def test_equal_runs_have_an_interval_without_width():
    assert paired_difference([0.9, 0.8], [0.9, 0.8])["interval"] == [0.0, 0.0]


def test_seeds_of_both_must_be_the_same_number():
    with pytest.raises(ValueError, match="zip"):
        paired_difference([0.9, 0.8], [0.9])


def test_the_first_epoch_that_reaches_a_target():
    rows = [{"epoch": 1, "a": None}, {"epoch": 2, "a": 0.0}, {"epoch": 3, "a": 0.5},
            {"epoch": 4, "a": math.nan}, {"epoch": 5, "a": 0.7}]  # fmt: skip
    assert [first_epoch_reaching(rows, "a", target) for target in (0.0, 0.5, 0.6, 0.8)] == [
        2,
        3,
        5,
        None,
    ]
