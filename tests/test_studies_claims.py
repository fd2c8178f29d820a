"""Claims of papers: what is expected of a study, how it is judged, and how it is told."""

import pytest

from bnzoo import config
from bnzoo.config.claim import Claim, expectation
from bnzoo.errors import InputError
from bnzoo.runs import StudyFolder
from bnzoo.studies import compare
from bnzoo.studies.claims import judge
from bnzoo.studies.statistics import describe

TREE = {
    "data": {"name": "digits", "batch_size": 300, "validation": "none"},
    "model": {"name": "dense", "units": [8], "placement": "none"},
    "train": {"epochs": 2, "tensorboard": False},
    "compare": {
        "baseline": "none_1e-1",
        "variants": {
            f"{placement}_{rate}": {
                "model.placement": placement,
                "train.optimizer.learning_rate": float(rate),
            }
            for placement in ("none", "before")
            for rate in ("1e-2", "1e-1", "1")
        },
        "seeds": [0, 1],
        "claim": {
            "source": "A paper, table 1",
            "published": "With it 99 %, without 12 %.",
            "differs": "Other data.",
            "expected": ["before_1 > none_1e-2", "before_1e-1 < none_1e-1 in test_loss"],
        },
    },
}


def entry(values, statuses=(), **numbers):
    """An entry of a study's summary: accuracies, and other numbers of each run."""
    count = len(values)
    runs = [
        {"status": status, "steps": 100, "epochs": 10, "selection_metric": "accuracy"}
        for status in [*statuses, *["completed"] * (count - len(statuses))]
    ]
    numbers = {"test_accuracy": values, **numbers}
    return {"runs": runs, **{name: describe(found) for name, found in numbers.items()}}


def judged(*expected, num_classes=10, **variants):
    claim = Claim(source="s", published="p", differs="d", expected=expected)
    return judge(claim, variants, "test_accuracy", num_classes)


def test_an_expectation_holds_is_the_opposite_or_is_not_settled():
    low, high, wild = entry([0.5, 0.51, 0.52]), entry([0.7, 0.72, 0.71]), entry([0.3, 0.9, 0.6])
    found = judged("high > low", "low > high", "wild > low", low=low, high=high, wild=wild)
    assert [one["holds"] for one in found["expected"]] == [True, False, None]
    assert found["expected"][0]["measured"].startswith("high 71.0 ± 1.0 %, low 51.0 ± 1.0 %: +20.0")


@pytest.mark.parametrize(
    ("expected", "verdict"),
    [
        (["high > low"], "agrees"),
        (["low > high"], "disagrees"),
        (["wild > low"], "not settled"),
        (["low > high", "wild > low"], "disagrees"),
        (["high > low", "low > high", "wild > low"], "agrees in 1 of 3"),
    ],
)
def test_the_verdict_of_several_expectations(expected, verdict):
    low, high, wild = entry([0.5, 0.51, 0.52]), entry([0.7, 0.72, 0.71]), entry([0.3, 0.9, 0.6])
    assert judged(*expected, low=low, high=high, wild=wild)["verdict"] == verdict


def test_a_run_that_diverged_counts_as_guessing_and_one_that_is_missing_not_at_all():
    gone = entry([None, None, None], ["diverged", "diverged", "missing"])
    found = judged("bn > gone", bn=entry([0.5, 0.6, 0.7]), gone=gone, num_classes=4)
    assert found["expected"][0]["values"]["gone"] == [0.25, 0.25, None]
    found = judged("gone > bn in diverged", bn=entry([0.5, 0.6, 0.7]), gone=gone)
    assert found["expected"][0]["values"] == {"gone": [1, 1, None], "bn": [0, 0, 0]}
    assert found["verdict"] == "agrees"


def test_a_run_that_never_got_there_took_as_long_as_the_longest():
    slow = entry([0.1, 0.1], ["diverged"], steps_to_baseline_best=[None, None])
    slow["runs"][0]["steps"] = 3  # it diverged at once
    fast = entry([0.9, 0.9], steps_to_baseline_best=[20, 30])
    found = judged("fast < slow in steps_to_baseline_best", fast=fast, slow=slow)
    assert found["expected"][0]["values"]["slow"] == [100, 100]
    assert found["expected"][0]["holds"] is True


def test_where_the_baseline_has_no_best_nobody_could_get_there():
    best = {"steps_to_baseline_best": [50, None, 50]}
    base = entry([0.5, None, 0.5], **best)
    base["runs"][1]["status"] = "missing"  # the study was interrupted
    one, other = (
        entry([0.9] * 3, steps_to_baseline_best=values)
        for values in ([20, None, 30], [40, None, None])
    )
    other["runs"][2]["selection_metric"] = "val_accuracy"  # is not to be compared
    expected = "one < other in steps_to_baseline_best"
    (found,) = judged(expected, base=base, one=one, other=other)["expected"]
    assert found["values"] == {"one": [20, None, 30], "other": [40, None, None]}


def test_scores_are_those_of_the_seeds_that_have_both_values():
    one = entry([0.5, 0.6, 0.7], test_loss=[1.0, 2.0, 6.0])
    wild = entry([None, 0.6, 0.7], ["diverged"], test_loss=[None, 4.0, 9.0])
    (found,) = judged("one < wild in test_loss", one=one, wild=wild)["expected"]
    assert found["measured"].startswith("one 4 ± 2.8, wild 6.5 ± 3.5: ")
    assert found["measured"].endswith("; 1 seed left out, not measured in both")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("compare.claim.expected", ["before_1 > before_1"], "two variants, got 'before_1' twice"),
        ("compare.claim.expected", ["before_1 > none_1"] * 2, "each expectation once"),
        ("compare.claim.expected", ["before_1 beats none_1"], "expected VARIANT > VARIANT"),
        ("compare.claim.expected", ["before_1 > nine_1"], "got 'nine_1'. Did you mean 'none_1'"),
        ("compare.claim.expected", [], "at least 1"),
        ("compare.claim.expected", ["none_1 > none_1e-1 in shift"], "got 'shift'"),
        ("compare.baseline", "nine_1", "got 'nine_1'. Did you mean 'none_1'"),
        ("compare.claim.because", "it is so", "because"),
    ],
)
def test_a_wrong_claim_is_told_before_anything_runs(key, value, words):
    with pytest.raises(InputError, match=words):
        config.validate(config.apply_overrides(TREE, [(key, value)]), source="test")


def test_an_expectation_is_read():
    assert expectation("a_1e-3 < b in steps_to_baseline_best") == (
        "a_1e-3",
        "<",
        "b",
        "steps_to_baseline_best",
    )
    assert expectation("a > b").number is None


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with a claim, whose variants are named after numbers, and one is the baseline."""
    out = tmp_path_factory.mktemp("claims") / "study"
    return StudyFolder(out), compare(config.validate(TREE, source="test"), out)


def test_a_study_ends_with_what_its_claim_came_to(study):
    _, summary = study
    assert summary["baseline"] == "none_1e-1"
    assert next(iter(summary["variants"])) == "none_1e-1"
    lines = summary["verdict"].splitlines()
    assert lines[0].startswith("none_1e-1: ")
    at = next(number for number, line in enumerate(lines) if line.startswith("claim "))
    assert lines[at].startswith("claim (A paper, table 1): ")
    assert [line.strip().split(":")[0] for line in lines[at + 1 :]] == [
        "before_1 > none_1e-2",
        "before_1e-1 < none_1e-1 in test_loss",
    ]


def test_its_report_tells_the_claim_and_draws_the_variants_along_their_numbers(study):
    folder, _ = study
    page = folder.report_file.read_text()
    assert "With it 99 %, without 12 %." in page
    assert "Other data." in page
    assert (folder.figures / "variants.png").exists()
    assert "learning rate</text>" in page
    assert "none_1e-1 with the same seed" in " ".join(page.split()).replace("<em>", "").replace(
        "</em>", ""
    )


def test_a_study_that_goes_on_is_judged_by_the_claim_of_today(study):
    folder, summary = study
    tree = config.apply_overrides(TREE, [("compare.claim.expected", ["none_1 < before_1"])])
    again = compare(config.validate(tree, source="test"), folder.path, resume=True)
    assert [one["text"] for one in again["claim"]["expected"]] == ["none_1 < before_1"]
    assert again["variants"] == summary["variants"]
