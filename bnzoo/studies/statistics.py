"""What a few seeds say: means, spreads, the one test that decides whether a difference counts.

And the sentences at the top of a report, which follow from that test and nothing else.
A value that was not measured (the run diverged, or is missing) is None wherever it stands.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from bnzoo.config import BASELINE
from bnzoo.reporting import formatting
from bnzoo.runs.metrics import goodness

LEVEL = 0.95
"""Share of such intervals that hold the true difference, if the assumptions hold."""

Values = Sequence[float | None]


def describe(values: Values) -> dict[str, Any]:
    """Return number, mean and standard deviation of the values that were measured.

    Returns:
        `{"n", "mean", "std", "values"}`. `std` is the sample's, divided by n - 1, and None for
        fewer than two values; `mean` is None for none.
    """
    measured = [value for value in values if value is not None]
    return {
        "n": len(measured),
        "mean": float(np.mean(measured)) if measured else None,
        "std": float(np.std(measured, ddof=1)) if len(measured) > 1 else None,
        "values": list(values),
    }


@dataclass(frozen=True)
class PairedDifference:
    """The differences between two variants, seed by seed, and what they say about their mean.

    Attributes:
        values: one difference per seed, None where one of the two was not measured.
        mean: of the differences; None for no pair.
        low, high: the 95 % interval of the mean; None for fewer than two pairs.
    """

    values: tuple[float | None, ...]
    mean: float | None
    low: float | None
    high: float | None

    @property
    def num_seeds(self) -> int:
        """Seeds with both values."""
        return sum(value is not None for value in self.values)

    @property
    def is_settled(self) -> bool:
        """Whether the interval leaves 0 out: the seeds settle which of the two is higher."""
        return self.low is not None and (self.low > 0 or self.high < 0)

    def summary(self) -> dict[str, Any]:
        """Return the difference as it stands in a `summary.json`."""
        interval = None if self.low is None else [self.low, self.high]
        return {**describe(self.values), "interval": interval, "level": LEVEL}


def paired_difference(values: Values, baseline_values: Values) -> PairedDifference:
    """Compare two variants over the same seeds with the paired two-sided Student t test.

    The one test of all studies and sweeps. It assumes that the differences between two runs with
    one seed are roughly normal and that the seeds are independent. All runs share one split of
    the data: nothing is said about other splits. The interval is not widened because there are
    more variants.

    Args:
        values: one per seed.
        baseline_values: one per seed, in the same order.

    Returns:
        The differences `values - baseline_values` with the interval of their mean,
        mean -+ t * std / sqrt(n), Student's t with n - 1 degrees of freedom.
    """
    pairs = list(zip(values, baseline_values, strict=True))
    measured = [pair for pair in pairs if None not in pair]
    differences = tuple(None if None in pair else pair[0] - pair[1] for pair in pairs)
    low = high = None
    if len(measured) > 1:
        with warnings.catch_warnings():
            # Nearly equal differences, which SciPy warns of, are no mistake of ours.
            warnings.simplefilter("ignore", RuntimeWarning)
            left, right = zip(*measured, strict=True)
            low, high = map(float, stats.ttest_rel(left, right).confidence_interval(LEVEL))
    return PairedDifference(differences, describe(differences)["mean"], low, high)


def sentence(difference: PairedDifference, metric: str = "test_accuracy") -> str:
    """Say how far two variants are apart and whether the seeds settle it.

    Args:
        difference: with at least one pair.
        metric: what was measured; accuracies are told in percentage points.

    Returns:
        One of, for example, `"+4.5 points [2.3, 6.7] (95 % interval, 3 seeds)"`,
        `"+5.9 points, higher in 3 of 3 seeds; 3 seeds do not settle it (95 % interval [-0.02,
        11.91])"`, `"equal in all 3 seeds"`, `"+4.5 points with one seed, which settles nothing"`.
    """
    count, gain = difference.num_seeds, formatting.change(difference.mean, metric)
    if count == 1:
        return f"{gain} with one seed, which settles nothing"
    if not any(difference.values):
        return f"equal in all {count} seeds"
    interval = formatting.interval(difference.low, difference.high, metric)
    if difference.is_settled:
        return f"{gain} {interval} (95 % interval, {count} seeds)"
    measured = [value for value in difference.values if value is not None]
    higher, lower = sum(value > 0 for value in measured), sum(value < 0 for value in measured)
    share = f"higher in {higher}" if higher >= lower else f"lower in {lower}"
    return (
        f"{gain}, {share} of {count} seeds; {count} seeds do not settle it "
        f"(95 % interval {interval})"
    )


def first_epoch_reaching(
    rows: Sequence[dict[str, float | None]], column: str, target: float
) -> int | None:
    """Return the first epoch, from 1, whose `column` is at least as good as `target`, or None."""
    measured = (row for row in rows if row.get(column) is not None)
    least = goodness(column, target)
    return next((row["epoch"] for row in measured if goodness(column, row[column]) >= least), None)


def variant_verdict(
    name: str,
    variant: dict[str, Any],
    baseline: dict[str, Any],
    metric: str = "test_accuracy",
    baseline_name: str = BASELINE,
) -> str:
    """Return the sentence of one variant, or of the baseline itself.

    Args:
        name: the variant's name.
        variant: its entry of a study's summary.
        baseline: the baseline's entry.
        metric: the key of both by which they are judged.
        baseline_name: the baseline's name.
    """
    if name == baseline_name:
        return f"{name}: {_outcome(baseline, metric)}."
    ours, theirs = (found[metric]["values"] for found in (variant, baseline))
    difference = paired_difference(ours, theirs)
    if not difference.num_seeds:
        theirs = f"the {BASELINE}" if baseline_name == BASELINE else baseline_name
        return f"{name}: {_outcome(variant, metric)}; {theirs}: {_outcome(baseline, metric)}."
    score, left_out = formatting.score(variant[metric], metric, 1), ""
    if None in difference.values:  # then both over the seeds that have a difference
        pairs = [pair for pair in zip(ours, theirs, strict=True) if None not in pair]
        both = [describe(values) for values in zip(*pairs, strict=True)]
        score = " against ".join(formatting.score(found, metric, 1) for found in both)
        missing = [
            f"{formatting.run_name(label, run['seed'])} ({run['status']})"
            for label, entry in ((name, variant), (baseline_name, baseline))
            for run in entry["runs"]
            if run["status"] != "completed"
        ]
        left_out = f"; left out: {', '.join(missing)}"
    kind = ", worse:" if goodness(metric, difference.mean) < 0 else ", better:"
    words = sentence(difference, metric)
    return f"{name}: {score}{kind if difference.is_settled else ';'} {words}{left_out}."


def study_verdict(
    variants: dict[str, dict[str, Any]], status: str, metric: str = "test_accuracy"
) -> str:
    """Return the top of the report, one sentence per line: the baseline's, then the variants'.

    Args:
        variants: the entries of a study's summary, the baseline first.
        status: of the study; one that is not completed says so.
        metric: the key of each by which they are judged.
    """
    first, baseline = next(iter(variants.items()))
    lines = [
        variant_verdict(name, entry, baseline, metric, first) for name, entry in variants.items()
    ]
    return "\n".join(lines if status == "completed" else ["Not finished. So far:", *lines])


def _outcome(variant: dict[str, Any], metric: str) -> str:
    """Say what all runs of a variant came to."""
    found, count = variant[metric], len(variant["runs"])
    if found["n"]:
        share = "" if found["n"] == count else f"{found['n']} of "
        score = formatting.score(found, metric, 1)
        return f"{score} ({share}{formatting.plural(count, 'seed')})"
    if variant["diverged"]:
        return f"diverged with {variant['diverged']} of {formatting.plural(count, 'seed')}"
    return "no run has finished yet"
