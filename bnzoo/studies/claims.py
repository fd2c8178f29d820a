"""Whether what a paper claims comes out of a study.

Each expectation of a claim (`compare.claim.expected`) is one difference between two variants, taken
seed by seed and judged as all differences are: by the 95 % interval of the paired t test. What was
not measured in a run counts as little as it can, and is not left out, as those that fail would be:

- a run that diverged answers as well as guessing does: accuracy 1 / classes;
- a run that never got to the baseline's best took as many steps, or epochs, as the longest run of
  the two variants.
"""

from typing import Any

from bnzoo.config.claim import Claim, Expectation
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
        variants: the entries of a study's summary.
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
    pair = [variants[one.variant], variants[one.other]]
    longest = (
        max(run[TIMES[number]] or 0 for entry in pair for run in entry["runs"])
        if number in TIMES
        else None
    )
    ours, theirs = (_values(entry, number, num_classes, longest) for entry in pair)
    difference = paired_difference(ours, theirs)
    holds = None
    if difference.is_settled:
        holds = (difference.mean > 0) == (one.sign == ">")
    scores = [_score(describe(values), number) for values in (ours, theirs)]
    words = sentence(difference, number) if difference.num_seeds else "not measured"
    return {
        "text": text,
        "number": number,
        "values": {one.variant: ours, one.other: theirs},
        "difference": difference.summary(),
        "measured": f"{one.variant} {scores[0]}, {one.other} {scores[1]}: {words}",
        "holds": holds,
    }


def _score(found: dict[str, Any], number: str) -> str:
    if formatting.is_share(number):
        return formatting.score(found, number, 1)
    return formatting.significant(found)


def _values(
    variant: dict[str, Any], number: str, num_classes: int | None, longest: int
) -> list[float | None]:
    """Return a number of each run, in the order of the seeds."""
    runs = variant["runs"]
    if number == DIVERGED:
        measured = [float(run["status"] == DIVERGED) for run in runs]
    else:
        measured = variant[number]["values"] if number in variant else [None] * len(runs)
    values = []
    for run, value in zip(runs, measured, strict=True):
        if run["status"] == "missing":
            value = None
        elif value is None and number in TIMES:
            value = longest
        elif value is None and number == ACCURACY and run["status"] == DIVERGED and num_classes:
            value = 1 / num_classes
        values.append(value)
    return values


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
