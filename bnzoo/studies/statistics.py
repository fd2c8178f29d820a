"""What a few seeds say: means, spreads, paired differences, and how soon a value is reached.

A value that was not measured (the run diverged, or is missing) is None wherever it stands.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
"""Share of such intervals that hold the true difference, if differences are normal."""

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


def paired_difference(values: Values, baseline: Values) -> dict[str, Any]:
    """Return the differences to the baseline, seed by seed, and what they say about their mean.

    Args:
        values: one per seed.
        baseline: one per seed, in the same order.

    Returns:
        `describe` of the differences, with `interval`: the confidence interval [low, high] of
        their mean at `level`, mean +- t * std / sqrt(n) with Student's t for n - 1 degrees of
        freedom; None for fewer than two pairs.
    """
    pairs = zip(values, baseline, strict=True)
    found = describe([None if None in pair else pair[0] - pair[1] for pair in pairs])
    return {**found, "interval": _interval(found), "level": LEVEL}


def _interval(found: dict[str, Any]) -> list[float] | None:
    if found["n"] < 2:
        return None
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, found["n"] - 1))
    half = quantile * found["std"] / math.sqrt(found["n"])
    return [found["mean"] - half, found["mean"] + half]


def first_epoch_reaching(
    rows: Sequence[dict[str, float | None]], column: str, target: float
) -> int | None:
    """Return the first epoch, from 1, whose value in `column` is at least `target`, or None."""
    for row in rows:
        value = row.get(column)
        if value is not None and value >= target:
            return row["epoch"]
    return None
