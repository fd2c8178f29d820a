"""The sentence at the top of a report is right on constructed cases."""

import json
from pathlib import Path

import pytest

from bnzoo.config import load_config
from bnzoo.reporting import formatting
from bnzoo.studies.statistics import describe, study_verdict, variant_verdict

RESULTS = Path(__file__).parent.parent / "configs" / "results"
DIVERGED, MISSING = "diverged", "missing"
BASELINE = [0.956, 0.936, 0.946]  # 94.6 +- 1.0 %


def entry(values):
    """Build what a study's summary says of a variant, from one accuracy or word per seed."""
    words = (DIVERGED, MISSING)
    scores = [None if value in words else value for value in values]
    return {
        "runs": [
            {"seed": seed, "status": value if value in words else "completed"}
            for seed, value in enumerate(values)
        ],
        "test_accuracy": describe(scores),
        "diverged": values.count(DIVERGED),
    }


def verdict(values, baseline):
    return variant_verdict("before", entry(values), entry(baseline)).replace(formatting.MINUS, "-")


def test_a_clear_win():
    # By hand: differences 3.6, 5.4, 4.5 points; std 0.9; 4.5 -+ 4.302653 * 0.9 / sqrt(3).
    assert verdict([0.992, 0.990, 0.991], BASELINE) == (
        "before: 99.1 ± 0.1 %, better: +4.5 points [2.3, 6.7] (95 % interval, 3 seeds)."
    )


def test_a_clear_loss():
    assert verdict([0.902, 0.900, 0.901], BASELINE) == (
        "before: 90.1 ± 0.1 %, worse: -4.5 points [-6.7, -2.3] (95 % interval, 3 seeds)."
    )


def test_a_large_difference_that_is_not_settled_is_not_called_no_difference():
    """+5.94 [-0.02, 11.91] is higher in every seed: more seeds would settle it."""
    text = verdict([0.9953, 0.9954, 1.0], [0.96, 0.936, 0.9165])
    assert text == (
        "before: 99.7 ± 0.3 %; +5.9 points, higher in 3 of 3 seeds; "
        "3 seeds do not settle it (95 % interval [-0.05, 11.93])."
    )


def test_a_small_difference():
    text = verdict([0.940, 0.950, 0.947], BASELINE)
    assert text.startswith("before: 94.6 ± 0.5 %; ")
    assert "higher in 2 of 3 seeds; 3 seeds do not settle it" in text
    assert "[-3.8, 3.7]" in text


def test_a_large_mean_difference_whose_interval_covers_0_is_not_better():
    text = verdict([0.99, 0.95, 0.80], [0.80, 0.90, 0.85])
    assert "do not settle it" in text
    assert "better" not in text


def test_a_bound_near_0_shows_its_sign():
    assert formatting.interval(0.0002, 0.03, "accuracy") == "[0.02, 3.00]"


def test_one_seed_claims_nothing():
    assert verdict([0.991], [0.946]) == (
        "before: 99.1 %; +4.5 points with one seed, which settles nothing."
    )


def test_equal_runs():
    assert verdict([0.94, 0.94, 0.94], [0.94, 0.94, 0.94]) == (
        "before: 94.0 ± 0.0 %; equal in all 3 seeds."
    )


@pytest.mark.parametrize(
    ("values", "baseline", "expected"),
    [
        ([DIVERGED] * 3, BASELINE, "diverged with 3 of 3 seeds; the baseline: 94.6 ± 1.0 %"),
        (BASELINE, [DIVERGED] * 3, "94.6 ± 1.0 % (3 seeds); the baseline: diverged with 3 of 3"),
        ([DIVERGED, 0.9], [0.9, DIVERGED], "90.0 % (1 of 2 seeds); the baseline: 90.0 % (1 of 2"),
    ],
)
def test_no_seed_has_both(values, baseline, expected):
    assert verdict(values, baseline).startswith(f"before: {expected}")


def test_runs_without_a_result_are_named_and_the_numbers_are_of_the_shared_seeds():
    text = verdict([0.992, 0.990, DIVERGED, 0.9], [0.956, 0.936, 0.946, MISSING])
    assert "99.1 ± 0.1 % against 94.6 ± 1.4 %" in text
    assert "; 2 seeds do not settle it" in text
    assert text.endswith("; left out: before seed 2 (diverged), baseline seed 3 (missing).")


def test_one_seed_that_is_left_over_claims_nothing():
    text = verdict([0.99, DIVERGED], [0.9, 0.9])
    assert "99.0 % against 90.0 %" in text
    assert "with one seed, which settles nothing; left out: before seed 1 (diverged)." in text


def test_the_baselines_own_sentence():
    def own(values):
        return variant_verdict("baseline", entry(values), entry(values))

    assert own(BASELINE) == "baseline: 94.6 ± 1.0 % (3 seeds)."
    assert own([0.9, 0.8, MISSING]).endswith("(2 of 3 seeds).")
    assert own([DIVERGED]) == "baseline: diverged with 1 of 1 seed."


def test_a_study_says_a_short_line_per_variant_the_baseline_first_and_whether_it_is_finished():
    variants = {
        "baseline": entry(BASELINE),
        "before": entry([0.992, 0.990, 0.991]),
        "wild": entry([DIVERGED] * 3),
    }
    expected = [
        variant_verdict(name, variants[name], variants["baseline"])
        for name in ("baseline", "before", "wild")
    ]
    assert study_verdict(variants, "completed").splitlines() == expected
    assert study_verdict(variants, "interrupted").splitlines() == [
        "Not finished. So far:",
        *expected,
    ]
    assert max(map(len, expected)) <= 100


def test_starter_studies_that_their_seeds_left_open_have_five_by_now():
    """With 5 seeds half the difference is settled that 3 need."""
    found = {}
    for file in sorted(RESULTS.glob("*.json")):
        summary = json.loads(file.read_text()).get("summary") or {}
        if summary.get("kind") == "study":
            verdict = study_verdict(summary["variants"], summary["status"])
            found[file.stem] = "do not settle" in verdict
    assert set(found.values()) == {True, False}
    for name, is_open in found.items():
        seeds = load_config(RESULTS.parent / f"{name}.yaml").compare.seeds
        assert len(seeds) == (5 if is_open else 3), name


def test_a_study_that_has_just_begun_has_a_verdict():
    nothing = [MISSING] * 3
    variants = {"baseline": entry(nothing), "before": entry(nothing)}
    assert study_verdict(variants, "interrupted") == (
        "Not finished. So far:\n"
        "baseline: no run has finished yet.\n"
        "before: no run has finished yet; the baseline: no run has finished yet."
    )
