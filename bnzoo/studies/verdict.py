"""The sentences at the top of a report. They follow from the test over seeds and nothing else."""

from typing import Any

from bnzoo.config import BASELINE
from bnzoo.reporting import formatting
from bnzoo.studies.statistics import describe, paired_difference, sentence

Variant = dict[str, Any]


def variant_verdict(name: str, variant: Variant, baseline: Variant) -> str:
    """Return the sentence of one variant.

    Args:
        name: the variant's name.
        variant: its entry of a study's summary.
        baseline: the baseline's entry.
    """
    ours, theirs = (found["test_accuracy"]["values"] for found in (variant, baseline))
    difference = paired_difference(ours, theirs)
    if not difference.num_seeds:
        return f"{name}: {_outcome(variant)}; the {BASELINE}: {_outcome(baseline)}."
    score, left_out = _score(variant["test_accuracy"]), ""
    if None in difference.values:  # then both over the seeds that have a difference
        pairs = [pair for pair in zip(ours, theirs, strict=True) if None not in pair]
        score = " against ".join(_score(describe(values)) for values in zip(*pairs, strict=True))
        missing = [*_without_result(name, variant), *_without_result(BASELINE, baseline)]
        left_out = f"; left out: {', '.join(missing)}"
    kind = ", worse:" if difference.mean < 0 else ", better:"
    return (
        f"{name}: {score}{kind if difference.is_settled else ';'} {sentence(difference)}{left_out}."
    )


def baseline_verdict(baseline: Variant) -> str:
    """Return the sentence of the baseline."""
    return f"{BASELINE}: {_outcome(baseline)}."


def study_verdict(variants: dict[str, Variant], status: str) -> str:
    """Return the top of the report, one sentence per line: the baseline's, then the variants'.

    Args:
        variants: the entries of a study's summary, the baseline among them.
        status: of the study; one that is not completed says so.
    """
    lines = [] if status == "completed" else ["Not finished. So far:"]
    lines.append(baseline_verdict(variants[BASELINE]))
    for name, variant in variants.items():
        if name != BASELINE:
            lines.append(variant_verdict(name, variant, variants[BASELINE]))
    return "\n".join(lines)


def _outcome(variant: Variant) -> str:
    """Say what all runs of a variant came to."""
    found, count = variant["test_accuracy"], len(variant["runs"])
    if found["n"]:
        share = "" if found["n"] == count else f"{found['n']} of "
        return f"{_score(found)} ({share}{formatting.plural(count, 'seed')})"
    if variant["diverged"]:
        return f"diverged with {variant['diverged']} of {formatting.plural(count, 'seed')}"
    return "no run has finished yet"


def _without_result(name: str, variant: Variant) -> list[str]:
    return [
        f"{formatting.run_name(name, run['seed'])} ({run['status']})"
        for run in variant["runs"]
        if run["status"] != "completed"
    ]


def _score(found: dict[str, Any]) -> str:
    return formatting.percent_spread(found, 1)
