"""What a study's run folders hold, as the lines that its figures draw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnzoo.files import read_rows
from bnzoo.runs import RunFolder

Row = dict[str, float | None]


@dataclass(frozen=True)
class Line:
    """Values over epochs, counted from 1; `low` and `high` bound the seeds behind each value."""

    epochs: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class WeightPath:
    """One point per epoch: the values of two single weights, and the loss of that epoch.

    names: the headings of `weights_path.csv`, say `conv_3/kernel[1,0,4,3]`.
    points: float64 array of shape (epochs, 3): first weight, second weight, loss.
    """

    names: tuple[str, str]
    points: np.ndarray


@dataclass(frozen=True)
class RunRows:
    """One run that has ended: its summary, its history, and its followed weights."""

    summary: dict[str, Any]
    rows: list[Row]
    path_rows: list[Row]

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.summary["seed"]

    @property
    def has_diverged(self) -> bool:
        """Whether the run ended as `diverged`."""
        return self.summary["status"] == "diverged"

    def line(self, column: str) -> Line:
        """Return one column of the history, up to the first epoch that is no finite number."""
        rows = _finite_start(self.rows, (column,))
        values = np.array([row[column] for row in rows], float)
        return Line(np.array([row["epoch"] for row in rows], int), values, values, values)

    def weight_path(self) -> WeightPath | None:
        """Return the path over the first two followed weights, or None where there is none."""
        names = [name for name in (self.path_rows or [{}])[0] if name not in ("epoch", "loss")]
        if len(names) < 2:
            return None
        columns = (*names[:2], "loss")
        rows = _finite_start(self.path_rows, columns)
        points = np.array([[row[column] for column in columns] for row in rows], float)
        return WeightPath((names[0], names[1]), points) if rows else None


@dataclass(frozen=True)
class VariantRuns:
    """One variant: its runs that have ended, in the order of their seeds."""

    name: str
    runs: list[RunRows]

    def mean(self, column: str) -> Line:
        """Return the mean over the completed runs, between the lowest and the highest of them.

        A run that stopped early counts as long as it went; diverged runs are lines of their own.
        """
        lines = [run.line(column) for run in self.runs if not run.has_diverged]
        epochs = sorted({int(epoch) for line in lines for epoch in line.epochs})
        found = [np.concatenate([line.values[line.epochs == e] for line in lines]) for e in epochs]
        parts = [np.array([part(values) for values in found]) for part in (np.mean, np.min, np.max)]
        return Line(np.array(epochs, int), *parts)

    def diverged(self) -> list[RunRows]:
        """Return the runs that diverged."""
        return [run for run in self.runs if run.has_diverged]

    def first_path(self) -> tuple[RunRows, WeightPath] | None:
        """Return the first completed run whose weights were followed, else a diverged one's."""
        completed_first = sorted(self.runs, key=lambda run: run.has_diverged)
        paths = ((run, run.weight_path()) for run in completed_first)
        return next(((run, path) for run, path in paths if path), None)


def read_variants(folder: Path, summary: dict[str, Any]) -> list[VariantRuns]:
    """Read the run folders that a study's summary names; missing runs are left out."""
    return [
        read_runs(folder, name, variant["runs"]) for name, variant in summary["variants"].items()
    ]


def read_runs(folder: Path, name: str, runs: Sequence[dict[str, Any]]) -> VariantRuns:
    """Read the run folders of one line of a figure; missing runs are left out."""
    return VariantRuns(name, [_read_run(folder, run) for run in runs if _has_ended(run)])


def _has_ended(run: dict[str, Any]) -> bool:
    return run["status"] != "missing"


def _read_run(folder: Path, run: dict[str, Any]) -> RunRows:
    found = RunFolder(folder / run["folder"])
    return RunRows(run, found.history(), read_rows(found.weights_path_file))


def _finite_start(rows: Sequence[Row], columns: Sequence[str]) -> list[Row]:
    start = []
    for row in rows:
        if not all(_is_finite(row.get(column)) for column in columns):
            break
        start.append(row)
    return start


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
