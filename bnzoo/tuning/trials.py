"""The trials of a search: their values, how far they are, and their scores. No TensorFlow here.

A score is always a finite number, as a diverged trial is a result too.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from bnzoo.config import Config, Dimension, space_of, value_texts, values_name
from bnzoo.config.tune import Objective
from bnzoo.errors import plural
from bnzoo.runs import RunFolder, SweepFolder

COMPLETED = "COMPLETED"
LARGEST_SCORE = 1e8
"""Measured scores are cut off here, so that they stay better than that of divergence."""
WORST_SCORE = 1e9
"""Of a trial whose every run diverged, with the sign that makes it the worst."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a search asks for.

    Attributes:
        number: of the trial, as the search counts them, from 0.
        values: by path, of the keys that are searched.
        epochs: how many, where the search decides it (hyperband), else None.
        epochs_before: how many of them the same values have been given in an earlier trial.
    """

    number: int
    values: dict[str, Any]
    epochs: int | None = None
    epochs_before: int = 0

    @property
    def name(self) -> str:
        """What the trial is called everywhere: `learning_rate 0.001, placement before`."""
        parts = [f"{key} {text}" for key, text in value_texts(self.values).items()]
        return ", ".join([*parts, plural(self.epochs, "epoch")] if self.epochs else parts)

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return _folder(self.values, self.epochs)

    @property
    def folder_before(self) -> str | None:
        """The name of the folder of the trial that it goes on from, if there is one."""
        return _folder(self.values, self.epochs_before) if self.epochs_before else None


def _folder(values: dict[str, Any], epochs: int | None) -> str:
    name = values_name(values)
    return name if epochs is None else f"{name}_epochs-{epochs}"


def as_trial(number: str, positions: dict[str, Any], space: list[Dimension]) -> Trial:
    """Return what keras-tuner's values stand for.

    Args:
        number: of the trial, as keras-tuner writes it.
        positions: by path, the place of a value in its list; and what hyperband adds (`tuner/`).
        space: the keys that are searched.
    """
    return Trial(
        number=int(number),
        values={
            key.path: key.values[positions[key.path]] for key in space if key.path in positions
        },
        epochs=positions.get("tuner/epochs"),
        epochs_before=positions.get("tuner/initial_epoch", 0),
    )


@dataclasses.dataclass(frozen=True)
class TrialState:
    """How far a trial is, as `oracle.json` has it.

    Attributes:
        trial: the trial.
        status: `COMPLETED`, `RUNNING` or `FAILED`, as keras-tuner calls it.
        score: once completed.
        worker: who runs it now.
    """

    trial: Trial
    status: str
    score: float | None
    worker: str | None

    def progress(self, folder: SweepFolder, config: Config) -> str:
        """Return what the trial has reached, or which run of it is under way, for a table.

        Args:
            folder: the sweep's.
            config: the sweep's.
        """
        if self.status == COMPLETED:
            return score_text(self.score, config.tune.objective)
        for seed in config.tune.seeds_from(config.seed):
            run = folder.run(self.trial.folder, seed)
            if run.has_ended():
                continue
            epochs = self.trial.epochs or config.train.epochs
            return f"seed {seed}, epoch {len(run.history())}/{epochs}"
        return "ending"


def read_trials(folder: SweepFolder, config: Config) -> list[TrialState]:
    """Return the trials of a sweep in the order in which they were started."""
    if not folder.oracle_file.exists():
        return []
    state, space = json.loads(folder.oracle_file.read_text()), space_of(config)
    workers = {number: worker for worker, number in state["ongoing_trials"].items()}
    return [
        TrialState(
            as_trial(number, saved["values"], space),
            saved["status"],
            saved["score"],
            workers.get(number),
        )
        for number, saved in state["trials"].items()
    ]


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
