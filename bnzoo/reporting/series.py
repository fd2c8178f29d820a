"""What the run folders of a study or a sweep hold, as the lines that figures draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bnzoo.files import read_rows
from bnzoo.runs import RunFolder

Row = dict[str, float | None]


class Line(NamedTuple):
    """Values over epochs, counted from 1; `low` and `high` bound the seeds behind each value."""

    epochs: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class RunRows:
    """One run that has ended: its summary, its history, and its followed weights."""

    summary: dict[str, Any]
    rows: list[Row]
    weight_rows: list[Row]

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.summary["seed"]

    @property
    def has_diverged(self) -> bool:
        """Whether the run ended as `diverged`."""
        return self.summary["status"] == "diverged"

    def values(self, column: str) -> np.ndarray:
        """Return one column of the history, up to the first epoch that is no finite number."""
        return _finite_start(self.rows, [column])[:, 0]

    def weight_trajectory(self) -> tuple[list[str], np.ndarray] | None:
        """Return the path over the first two followed weights, or None where there is none.

        Returns:
            The headings of the two in `weights_path.csv`, say `conv_3/kernel[1,0,4,3]`, and a
            float64 array of shape (epochs, 3): first weight, second weight, loss.
        """
        columns = list(self.weight_rows[0]) if self.weight_rows else []
        names = [name for name in columns if name not in ("epoch", "loss")][:2]
        points = _finite_start(self.weight_rows, [*names, "loss"])
        return (names, points) if len(names) == 2 and len(points) > 1 else None


@dataclass(frozen=True)
class VariantRuns:
    """One variant: its runs that have ended, in the order of their seeds."""

    name: str
    runs: list[RunRows]

    @property
    def completed(self) -> list[RunRows]:
        """The runs that did not diverge."""
        return [run for run in self.runs if not run.has_diverged]

    @property
    def diverged(self) -> list[RunRows]:
        """The runs that diverged."""
        return [run for run in self.runs if run.has_diverged]

    def mean(self, column: str) -> Line:
        """Return the mean over the completed runs, between the lowest and the highest of them.

        A run that stopped early counts as long as it went; diverged runs are lines of their own.
        """
        by_epoch = zip_longest(*(run.values(column) for run in self.completed), fillvalue=np.nan)
        seeds = [np.array(values)[np.isfinite(values)] for values in by_epoch]
        parts = [np.array([part(one) for one in seeds]) for part in (np.mean, np.min, np.max)]
        return Line(np.arange(1, len(seeds) + 1), *parts)


def read_runs(folder: Path, name: str, runs: Sequence[dict[str, Any]]) -> VariantRuns:
    """Read the run folders of one line of a figure; missing runs are left out."""
    ended = [(run, RunFolder(folder / run["folder"])) for run in runs if run["status"] != "missing"]
    return VariantRuns(
        name,
        [RunRows(run, found.history(), read_rows(found.weights_path_file)) for run, found in ended],
    )


def _finite_start(rows: Sequence[Row], columns: Sequence[str]) -> np.ndarray:
    """Return columns of the rows before the first that lacks one of them, one row per epoch."""
    values = np.array([[row.get(column) for column in columns] for row in rows], float)
    values = values.reshape(len(rows), len(columns))  # None is NaN by now
    return values[np.logical_and.accumulate(np.isfinite(values).all(axis=1))]
