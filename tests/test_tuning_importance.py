"""Which key mattered most: against sweeps of which it is known, and where it cannot be told."""

import itertools
import math

import numpy as np
import pytest
from sweep_folders import PLACEMENT, RATE, make_trials

from bnzoo.tuning.importance import key_importance

MOMENTUM, UNITS = "train.optimizer.momentum", "model.units"
PLACEMENTS = ["none", "before", "after"]


def drawn_points(count=40, seed=0):
    """Return a random search over a rate on a logarithmic scale, a momentum and a placement."""
    random = np.random.default_rng(seed)
    return [
        {RATE: float(10 ** random.uniform(-4, 0)), MOMENTUM: float(random.uniform(0, 1)),
         PLACEMENT: str(random.choice(PLACEMENTS))}
        for _ in range(count)
    ]  # fmt: skip


def known_score(values, seed=0):
    """Add parts with variances of 9 to 1: the momentum's and the rate's; the placement has none."""
    return 3 * values[MOMENTUM] + (math.log10(values[RATE]) + 4) / 4


def shares(found):
    return {path: entry["share"] for path, entry in found["keys"].items()}


@pytest.fixture(scope="module")
def found():
    return key_importance(make_trials(drawn_points(), known_score), "max")


def test_keys_are_in_the_order_of_their_shares_which_are_near_the_truth(found):
    assert list(found["keys"]) == [MOMENTUM, RATE, PLACEMENT]
    assert found["trials"] == 40
    assert shares(found)[MOMENTUM] < found["explained"]["share"] < 1  # a forest smooths
    assert 0.7 < found["keys"][MOMENTUM]["share"] < 0.95
    assert 0.02 < found["keys"][RATE]["share"] < 0.15
    assert found["explained"]["share"] == pytest.approx(sum(shares(found).values()), abs=0.1)
    assert found["text"].startswith("Of the keys, momentum mattered most: it makes ")


def test_the_interval_of_a_key_that_does_nothing_holds_0_and_that_of_a_weak_one_does_not(found):
    low, high = found["keys"][PLACEMENT]["interval"]
    assert -0.05 < low <= 0 <= high < 0.05
    assert found["keys"][RATE]["interval"][0] > 0


def test_equal_trials_give_equal_numbers(found):
    assert key_importance(make_trials(drawn_points(), known_score), "max") == found


def test_a_loss_gives_the_shares_of_its_negative(found):
    trials = make_trials(drawn_points(), lambda values, seed: -known_score(values))
    assert key_importance(trials, "min") == found


def test_a_rate_on_a_logarithmic_scale_counts_over_all_of_it():
    """Half of the rates are below 0.01, where a linear axis has 1 % of its length."""
    trials = make_trials(drawn_points(), lambda v, seed: math.log10(v[RATE]) + 0.5 * v[MOMENTUM])
    found = key_importance(trials, "max")
    assert next(iter(found["keys"])) == RATE
    assert found["keys"][RATE]["share"] > 0.8


def test_a_word_that_decides_is_found_and_is_one_key():
    offsets = {"none": 1.0, "before": 0.0, "after": 3.0}
    trials = make_trials(
        drawn_points(), lambda values, seed: offsets[values[PLACEMENT]] + values[MOMENTUM] / 2
    )
    found = key_importance(trials, "max")
    assert next(iter(found["keys"])) == PLACEMENT
    assert len(found["keys"]) == 3
    assert found["keys"][PLACEMENT]["share"] > 0.8


def test_two_keys_that_act_only_together_each_have_their_share():
    points = [
        {RATE: rate, MOMENTUM: momentum, PLACEMENT: placement}
        for rate, momentum, placement in itertools.product(
            (0.01, 0.1, 1.0), (0.0, 0.5, 0.9), PLACEMENTS
        )
    ]
    trials = make_trials(
        points, lambda v, seed: (v[RATE] - 0.1) * (v[MOMENTUM] - 0.5) + (v[RATE] == 0.1) * 0.01
    )
    found = key_importance(trials, "max")
    assert set(list(found["keys"])[:2]) == {RATE, MOMENTUM}
    assert "too close to tell which of them more" in found["text"]


def test_diverged_runs_count_as_the_last_place():
    """Only divergence tells the rates apart, whose other trials differ by their momentum alone."""

    def score(values, seed):
        return None if values[RATE] > 0.01 else values[MOMENTUM]

    found = key_importance(make_trials(drawn_points(), score), "max")
    assert next(iter(found["keys"])) == RATE
    assert found["keys"][RATE]["share"] > found["keys"][MOMENTUM]["share"] > 0
    low, high = found["keys"][PLACEMENT]["interval"]
    assert low <= 0 <= high


def test_a_run_that_is_not_there_yet_is_left_out():
    trials = make_trials(drawn_points(), known_score)
    unfinished = {**trials[0], "values": {**trials[0]["values"], RATE: 0.5}, "score": None}
    assert key_importance([*trials, unfinished], "max") == key_importance(trials, "max")


def test_a_key_searched_under_a_condition_has_no_share_of_the_condition():
    """A momentum that does nothing is absent without batch normalization, which is worse."""
    points = drawn_points(seed=2)
    for values in points:
        if values[PLACEMENT] == "none":
            del values[MOMENTUM]
    trials = make_trials(points, lambda v, seed: (v[PLACEMENT] != "none") * 5 + v[RATE] ** 0.1)
    found = key_importance(trials, "max")
    assert next(iter(found["keys"])) == PLACEMENT
    low, high = found["keys"][MOMENTUM]["interval"]
    assert low <= 0 <= high


def test_of_hyperbands_rounds_the_longest_counts_and_epochs_are_no_key():
    points = drawn_points()
    rounds = [*points, *points[:13]]
    epochs = [1] * 40 + [3] * 13
    trials = make_trials(rounds, known_score, epochs=epochs)
    for trial in trials:
        trial["runs"][0]["score"] += trial["epochs"]
    found = key_importance(trials, "max")
    assert found["trials"] == 40
    assert set(found["keys"]) == {MOMENTUM, RATE, PLACEMENT}
    assert next(iter(found["keys"])) == MOMENTUM


def test_lists_and_null_are_words():
    random = np.random.default_rng(0)
    units = [[8], [64, 64], None]
    points = [{**one, UNITS: units[random.integers(3)]} for one in drawn_points()]
    found = key_importance(make_trials(points, lambda v, s: units.index(v[UNITS]) % 2), "max")
    assert next(iter(found["keys"])) == UNITS


def test_nine_trials_are_too_few_to_tell():
    found = key_importance(make_trials(drawn_points()[:9], known_score), "max")
    assert found["text"] == "Too few trials to tell which key mattered most, fewer than 10."
    assert found["keys"] == {}


def test_noise_alone_is_not_drawn():
    random = np.random.default_rng(3)
    trials = make_trials(drawn_points(), lambda values, seed: random.normal(), seeds=(0, 1, 2))
    found = key_importance(trials, "max")
    assert found["keys"] == {}
    assert found["text"].startswith("Too few trials to tell which key mattered most: ")
    assert found["seed_noise"] > 0.7


@pytest.mark.parametrize("score", [None, 0.5], ids=["diverged", "equal"])
def test_trials_that_all_ended_alike_tell_nothing(score):
    found = key_importance(make_trials(drawn_points(), lambda *_: score, seeds=(0, 1)), "max")
    assert found["keys"] == {}
    assert found["text"] == "No key mattered: all trials came to the same."


def test_the_spread_between_seeds_is_set_beside_the_differences(found):
    assert found["seed_noise"] is None  # of one seed nothing is known
    random = np.random.default_rng(0)
    trials = make_trials(
        drawn_points(), lambda v, seed: known_score(v) + 0.1 * random.normal(), seeds=(0, 1)
    )
    assert 0 < key_importance(trials, "max")["seed_noise"] < 0.02


def test_two_keys_are_told_nothing_of_nor_is_a_third_with_one_value():
    points = drawn_points()
    assert key_importance(make_trials(points[:0], known_score), "max") is None
    for values in points:
        values[PLACEMENT] = "before"
    assert key_importance(make_trials(points, known_score), "max") is None
