"""Whether what a paper claims comes out of a study.

Each expectation of a claim (`compare.claim.expected`) is one difference between two variants, taken
seed by seed and judged as all differences are: by the 95 % interval of the paired t test. To leave
out runs that failed would favor their variant, so they count where there is a bound:

- a run that diverged answers as well as guessing does: accuracy 1 / classes;
- a run that never got to the baseline's best took as many steps, or epochs, as the longest run of
  the two variants; where the baseline has no best with that seed, nobody could get there.

A loss, or what a study watches, has none: seeds without both values are left out, which is told.
"""

from typing import Any

from bnzoo.config.claim import Claim, Expectation
from bnzoo.errors import plural
from bnzoo.reporting import formatting
from bnzoo.studies.statistics import describe, paired_difference, sentence

ACCURACY, DIVERGED = "test_accuracy", "diverged"
TIMES = {"steps_to_baseline_best": "steps", "epochs_to_baseline_best": "epochs"}
"""By number: the key of how many of them a run has."""


def judge(
    claim: Claim, variants: dict[str, dict[str, Any]], metric: str, num_classes: int | None
) -> dict[str, Any]:
    """Compare what is expected with what was measured.

    Args:
        claim: what is expected.
        variants: the entries of a study's summary, the baseline first.
        metric: what the study is judged by.
        num_classes: of the data; None without classes.

    Returns:
        The claim's texts and, in `expected`, of each expectation its `text`, the numbers of both
        variants, their `difference`, what it comes to in words (`measured`), and in `holds` True,
        False if the opposite is settled, None if nothing is. `verdict` is `agrees`, `disagrees`,
        `not settled`, or `agrees in 2 of 3`.
    """
    found = [
        _expectation(text, one, variants, one.number or metric, num_classes)
        for text, one in zip(claim.expected, claim.expectations(), strict=True)
    ]
    return {
        "source": claim.source,
        "published": claim.published,
        "differs": claim.differs,
        "expected": found,
        "verdict": _verdict([one["holds"] for one in found]),
    }


def _verdict(holds: list[bool | None]) -> str:
    if all(holds):
        return "agrees"
    if any(holds):
        return f"agrees in {sum(map(bool, holds))} of {len(holds)}"
    return "disagrees" if False in holds else "not settled"


def _expectation(
    text: str,
    one: Expectation,
    variants: dict[str, dict[str, Any]],
    number: str,
    num_classes: int | None,
) -> dict[str, Any]:
    pair, baseline = [variants[one.variant], variants[one.other]], next(iter(variants.values()))
    longest = max(run[TIMES.get(number, "steps")] or 0 for entry in pair for run in entry["runs"])
    ours, theirs = (_values(entry, number, num_classes, longest, baseline) for entry in pair)
    difference = paired_difference(ours, theirs)
    holds = None
    if difference.is_settled:
        holds = (difference.mean > 0) == (one.sign == ">")
    return {
        "text": text,
        "number": number,
        "values": {one.variant: ours, one.other: theirs},
        "difference": difference.summary(),
        "measured": _words(one, ours, theirs, number),
        "holds": holds,
    }


def _words(
    one: Expectation, ours: list[float | None], theirs: list[float | None], number: str
) -> str:
    """Tell both variants over the seeds in which both have a number, and their difference."""
    pairs = [pair for pair in zip(ours, theirs, strict=True) if None not in pair]
    if not pairs:
        return "not measured"
    first, second = (_score(describe(values), number) for values in zip(*pairs, strict=True))
    words = sentence(paired_difference(ours, theirs), number)
    left_out = len(ours) - len(pairs)
    told = f"; {plural(left_out, 'seed')} left out, not measured in both" if left_out else ""
    return f"{one.variant} {first}, {one.other} {second}: {words}{told}"


def _score(found: dict[str, Any], number: str) -> str:
    if formatting.is_share(number):
        return formatting.score(found, number, 1)
    return formatting.significant(found)


def _values(
    variant: dict[str, Any],
    number: str,
    num_classes: int | None,
    longest: int,
    baseline: dict[str, Any],
) -> list[float | None]:
    """Return a number of each run, in the order of the seeds."""
    runs = variant["runs"]
    if number == DIVERGED:
        return [
            None if run["status"] == "missing" else float(run["status"] == DIVERGED) for run in runs
        ]
    values = variant[number]["values"] if number in variant else [None] * len(runs)
    if number == ACCURACY and num_classes:
        return [
            1 / num_classes if run["status"] == DIVERGED else value
            for run, value in zip(runs, values, strict=True)
        ]
    if number in TIMES:
        targets = zip(baseline["runs"], baseline[number]["values"], strict=True)
        return [
            longest if value is None and best is not None and _could_reach(run, other) else value
            for run, value, (other, best) in zip(runs, values, targets, strict=True)
        ]
    return values


def _could_reach(run: dict[str, Any], of_baseline: dict[str, Any]) -> bool:
    """Tell whether a run that is not there has failed: not if it is missing or not comparable."""
    if run["status"] == "completed":
        return run["selection_metric"] == of_baseline["selection_metric"]
    return run["status"] == DIVERGED


def claim_lines(judged: dict[str, Any]) -> list[str]:
    """Return what a claim came to, as the terminal has it: the verdict, and a line of each."""
    marks = {True: "holds", False: "the opposite", None: "not settled"}
    return [
        f"claim ({judged['source']}): {judged['verdict']}.",
        *(
            f"  {one['text']}: {marks[one['holds']]}. {one['measured']}."
            for one in judged["expected"]
        ),
    ]
