"""What a search asks for: values to try. Nothing here starts TensorFlow."""

import dataclasses
import json
from typing import Any

from bnzoo.config import Config, Dimension, space_of, values_name
from bnzoo.errors import plural
from bnzoo.runs import SweepFolder

COMPLETED, RUNNING = "COMPLETED", "RUNNING"


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a search asks for.

    Attributes:
        number: of the trial, as the search counts them.
        values: by path, of the keys that are searched.
        epochs: how many, where the search decides it (hyperband), else None.
        epochs_before: how many of them the same values have been given in an earlier trial.
    """

    number: str
    values: dict[str, Any]
    epochs: int | None = None
    epochs_before: int = 0

    @property
    def name(self) -> str:
        """The name of its folder."""
        return _name(self.values, self.epochs)

    @property
    def name_before(self) -> str | None:
        """The name of the folder of the trial that it goes on from, if there is one."""
        return _name(self.values, self.epochs_before) if self.epochs_before else None

    @property
    def label(self) -> str:
        """Its values for a line of text: `learning_rate 0.001, placement before`."""
        ends = [f"{path.rpartition('.')[2]} {value}" for path, value in self.values.items()]
        return ", ".join(ends) + (f", {plural(self.epochs, 'epoch')}" if self.epochs else "")


def _name(values: dict[str, Any], epochs: int | None) -> str:
    name = values_name(values)
    return name if epochs is None else f"{name}_epochs-{epochs}"


def as_trial(number: str, positions: dict[str, Any], space: list[Dimension]) -> Trial:
    """Return what keras-tuner's values stand for.

    Args:
        number: of the trial.
        positions: by path, the place of a value in its list; and what hyperband adds (`tuner/`).
        space: the keys that are searched.
    """
    return Trial(
        number=number,
        values={
            one.path: one.values[positions[one.path]] for one in space if one.path in positions
        },
        epochs=positions.get("tuner/epochs"),
        epochs_before=positions.get("tuner/initial_epoch", 0),
    )


@dataclasses.dataclass(frozen=True)
class TrialState:
    """How far a trial is, as `oracle.json` has it.

    Attributes:
        trial: the trial.
        status: `COMPLETED`, `RUNNING`, or what keras-tuner calls one that failed.
        score: once completed.
        worker: who runs it now.
    """

    trial: Trial
    status: str
    score: float | None
    worker: str | None


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
