"""The sentence at the top of a report is right on constructed cases."""

import pytest

from bnzoo.studies.statistics import describe, paired_difference
from bnzoo.studies.verdict import baseline_verdict, judge, study_verdict, variant_verdict

DIVERGED, MISSING = "diverged", "missing"
BASELINE = [0.956, 0.936, 0.946]  # 94.6 +- 1.0 %


def entry(values, baseline=None):
    """Build what a study's summary says of a variant, from one accuracy or word per seed."""
    words = (DIVERGED, MISSING)
    scores = [None if value in words else value for value in values]
    paired = [None if value in words else value for value in baseline or []]
    return {
        "runs": [{"status": value if value in words else "completed"} for value in values],
        "test_accuracy": describe(scores),
        "difference": paired_difference(scores, paired) if baseline else None,
        "diverged": values.count(DIVERGED),
    }


def verdict(values, baseline):
    return variant_verdict("before", entry(values, baseline), entry(baseline))


def test_a_clear_win():
    # By hand: differences 3.6, 5.4, 4.5 points; std 0.9; 4.5 -+ 4.302653 * 0.9 / sqrt(3).
    assert verdict([0.992, 0.990, 0.991], BASELINE) == (
        "before: better, 99.1 ± 0.1 % against 94.6 ± 1.0 %; "
        "difference +4.5 points [2.3, 6.7] (95 % interval, 3 seeds)."
    )


def test_a_clear_loss():
    assert verdict([0.902, 0.900, 0.901], BASELINE) == (
        "before: worse, 90.1 ± 0.1 % against 94.6 ± 1.0 %; "
        "difference -4.5 points [-6.7, -2.3] (95 % interval, 3 seeds)."
    )


def test_no_difference():
    text = verdict([0.940, 0.950, 0.947], BASELINE)
    assert text.startswith("before: no difference shown, 94.6 ± 0.5 % against 94.6 ± 1.0 %")
    assert "[-3.8, 3.7]" in text


def test_a_large_mean_difference_whose_interval_covers_0_is_none():
    text = verdict([0.99, 0.95, 0.80], [0.80, 0.90, 0.85])
    assert "no difference shown" in text
    assert "better" not in text


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [
        (0.0, 0.1, "no difference shown"),
        (-0.1, 0.0, "no difference shown"),
        (1e-6, 0.1, "better"),
        (-0.1, -1e-6, "worse"),
        (0.0, 0.0, "identical"),
        (0.04, 0.04, "better"),
    ],
)
def test_the_interval_alone_decides(low, high, kind):
    variant = entry([0.9, 0.9], [0.8, 0.8])
    variant["difference"]["interval"] = [low, high]
    assert judge(variant, entry([0.8, 0.8])) == kind


def test_a_bound_near_0_shows_its_sign():
    variant = entry([0.9, 0.9], [0.8, 0.8])
    variant["difference"]["interval"] = [0.0002, 0.03]
    assert "[0.02, 3.00]" in variant_verdict("before", variant, entry([0.8, 0.8]))


def test_one_seed_shows_nothing():
    assert verdict([0.991], [0.946]) == (
        "before: 99.1 % against 94.6 % with one seed (+4.5 points); "
        "one seed shows nothing about the difference."
    )


def test_no_spread_and_no_difference_is_identical():
    assert verdict([0.94, 0.94, 0.94], [0.94, 0.94, 0.94]) == (
        "before: identical to the baseline on every seed, "
        "94.0 ± 0.0 % against 94.0 ± 0.0 % (3 seeds)."
    )


def test_all_runs_of_the_variant_diverged():
    assert verdict([DIVERGED] * 3, BASELINE) == (
        "before: has diverged on all 3 seeds; the baseline reached 94.6 ± 1.0 %."
    )


def test_all_runs_of_the_baseline_diverged():
    assert verdict(BASELINE, [DIVERGED] * 3) == (
        "before: 94.6 ± 1.0 %; the baseline has diverged on all 3 seeds, so there is no difference."
    )


def test_all_runs_of_both_diverged():
    assert verdict([DIVERGED] * 3, [DIVERGED] * 3) == (
        "before: has diverged on all 3 seeds, like the baseline."
    )


def test_no_seed_has_both():
    text = verdict([DIVERGED, 0.9], [0.9, DIVERGED])
    assert text == "before: no seed has a result both of it and of the baseline."


def test_some_runs_diverged_and_the_numbers_are_of_the_shared_seeds():
    text = verdict([0.992, 0.990, DIVERGED, 0.9], [0.956, 0.936, 0.946, DIVERGED])
    assert "99.1 ± 0.1 % against 94.6 ± 1.4 %" in text
    assert "(95 % interval, 2 seeds)" in text
    assert "; left out: it diverged on 1 of 4, the baseline diverged on 1 of 4." in text


def test_one_seed_that_is_left_over_shows_nothing():
    text = verdict([0.99, DIVERGED], [0.9, 0.9])
    assert "one seed shows nothing" in text
    assert "it diverged on 1 of 2" in text


def test_the_baselines_own_sentence():
    assert baseline_verdict(entry(BASELINE)) == "baseline: 94.6 ± 1.0 % (3 seeds)."
    assert baseline_verdict(entry([0.9, 0.8, MISSING])).endswith("(2 of 3 seeds).")
    assert baseline_verdict(entry([DIVERGED])) == "baseline: has diverged with the one seed."


def test_a_study_of_one_variant_says_its_verdict_and_whether_it_is_finished():
    win = [0.992, 0.990, 0.991]
    variants = {"baseline": entry(BASELINE), "before": entry(win, BASELINE)}
    expected = variant_verdict("before", variants["before"], variants["baseline"])
    assert study_verdict(variants, "completed") == expected
    assert study_verdict(variants, "interrupted") == f"Not finished. So far: {expected}"


def test_a_study_of_several_variants_says_all_in_one_sentence():
    variants = {
        "baseline": entry(BASELINE),
        "before": entry([0.992, 0.990, 0.991], BASELINE),
        "after": entry([0.940, 0.950, 0.947], BASELINE),
        "wild": entry([DIVERGED] * 3, BASELINE),
    }
    assert study_verdict(variants, "completed") == (
        "Against the baseline (94.6 ± 1.0 %): "
        "before 99.1 ± 0.1 %, better, difference +4.5 points [2.3, 6.7] (95 % interval, 3 seeds); "
        "after 94.6 ± 0.5 %, no difference shown, difference 0.0 points [-3.8, 3.7] "
        "(95 % interval, 3 seeds); "
        "wild has diverged on all 3 seeds."
    )


def test_a_study_of_several_variants_whose_baseline_diverged():
    gone, win = [DIVERGED] * 2, [0.99, 0.98]
    variants = {"baseline": entry(gone), "a": entry(win, gone), "b": entry(gone, gone)}
    assert study_verdict(variants, "completed") == (
        "Against the baseline (has diverged on all 2 seeds): "
        "a 98.5 ± 0.7 %, no seed with both; b has diverged on all 2 seeds."
    )


def test_a_study_that_has_just_begun_has_a_verdict():
    nothing = [MISSING] * 3
    variants = {"baseline": entry(nothing), "before": entry(nothing, nothing)}
    assert study_verdict(variants, "interrupted") == (
        "Not finished. So far: before: has not finished any run yet, like the baseline."
    )
