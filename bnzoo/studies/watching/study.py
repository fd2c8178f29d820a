"""The one shape of all studies that watch a training."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
from matplotlib.figure import Figure

from bnzoo import data
from bnzoo.config import Train
from bnzoo.config.section import Section

Row = dict[str, float | None]
Runs = Sequence[Sequence[Row]]
"""The rows of each run of a variant that has any, in the order of the seeds."""


class Look(NamedTuple):
    """What is measured at a look: the names of the values, and their rows after so many steps."""

    columns: Sequence[str]
    measure: Callable[[int], Sequence[Row]]


class Study(ABC):
    """What is watched, when, which numbers that makes of a run, and how it is drawn.

    Args:
        settings: its section, `compare.study`.

    Attributes:
        caption: what stands under the figure.
    """

    caption: ClassVar[str]

    def __init__(self, settings: Section):
        self.settings: Any = settings

    @property
    def name(self) -> str:
        """The word in the config."""
        return self.settings.name

    @property
    def numbers(self) -> dict[str, str]:
        """The name of each number in `summary.json`, and what it is in words."""
        return self.settings.numbers

    @abstractmethod
    def check(self, model: keras.Model, splits: "data.Splits", train: Train) -> None:
        """Refuse a model that lacks what is watched.

        Args:
            model: compiled.
            splits: the data of the run.
            train: how it will be trained.

        Raises:
            InputError: names what is lacking.
        """

    @abstractmethod
    def is_due(self, step: int, steps_per_epoch: int) -> bool:
        """Tell whether to look after so many steps; 0 is before the first."""

    @abstractmethod
    def begin(self, model: keras.Model, splits: "data.Splits") -> Look:
        """Take a sample of the data and compile what looks at it; the model stays as it is."""

    @abstractmethod
    def count(self, rows: Sequence[Row]) -> dict[str, float]:
        """Return the numbers that the rows of a run make; those they do not suffice for lack."""

    @abstractmethod
    def draw(self, variants: dict[str, Runs]) -> Figure:
        """Draw the rows of all runs by variant; at least one run has rows."""


def until_infinite(rows: Sequence[Row]) -> list[Row]:
    """Return the rows before the first with a value that is no finite number."""
    kept = []
    for row in rows:
        if not all(value is not None and math.isfinite(value) for value in row.values()):
            break
        kept.append(row)
    return kept


def across_seeds(runs: Runs, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps, and a column of shape (steps, seeds); seeds that ended earlier have NaN."""
    steps = sorted({row["step"] for rows in runs for row in rows})
    found = [{row["step"]: row[column] for row in rows} for rows in runs]
    return np.array(steps), np.array([[one.get(step, np.nan) for one in found] for step in steps])
