"""What a run and a trial are worth: always a finite number, as a diverged trial is a result too."""

import math
from collections.abc import Sequence

from bnzoo.config.tune import Objective
from bnzoo.runs import RunFolder

LARGEST_SCORE = 1e8
"""Measured scores are cut off here, so that they stay better than that of divergence."""
WORST_SCORE = 1e9
"""Of a trial whose every run diverged, with the sign that makes it the worst."""


def run_score(run: RunFolder, objective: Objective) -> float | None:
    """Return the objective at the run's best epoch, or None for a run that diverged.

    Args:
        run: a run that has ended.
        objective: column and direction.
    """
    if run.status() != "completed":
        return None
    values = [row.get(objective.name) for row in run.history()]
    measured = [value for value in values if value is not None and math.isfinite(value)]
    if not measured:
        return None
    best = max(measured) if objective.direction == "max" else min(measured)
    return max(-LARGEST_SCORE, min(LARGEST_SCORE, best))


def trial_score(scores: Sequence[float | None], objective: Objective) -> float:
    """Return the mean over a trial's runs; any that diverged makes it worse than all that did not.

    Args:
        scores: one per run, None for one that diverged.
        objective: says which direction is worse.
    """
    diverged = sum(score is None for score in scores)
    if not diverged:
        return math.fsum(scores) / len(scores)
    worst = WORST_SCORE * (1 + diverged / len(scores)) / 2
    return -worst if objective.direction == "max" else worst


def score_text(score: float, objective: Objective) -> str:
    """Return a trial's score for a line of text: `val_accuracy 0.9833`, or `diverged`."""
    return "diverged" if abs(score) > LARGEST_SCORE else f"{objective.name} {score:.4f}"
