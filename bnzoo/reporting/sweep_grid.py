"""A sweep's trials as the cells of a table: learning rate down, placement across."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

from bnzoo.config.tune import PLACEMENT, RATE

MOST_ROWS = 12  # more values are gathered into this many intervals


@dataclass(frozen=True)
class Row:
    """One value of the key that is drawn over, or an interval of its values.

    Attributes:
        label: how it is written.
        place: where it stands on the axis: the value itself, or its number where it is no number.
    """

    label: str
    place: float


@dataclass(frozen=True)
class Cell:
    """The best trial that falls into a cell.

    Attributes:
        scores: one per seed that did not diverge.
        diverged: how many seeds did.
    """

    scores: tuple[float, ...]
    diverged: int

    @property
    def mean(self) -> float | None:
        """The mean score, or None where a seed diverged."""
        return None if self.diverged else math.fsum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Grid:
    """The cells of a sweep.

    Attributes:
        path: the key that is drawn over: the learning rate, where it is searched.
        rows: its values, from the smallest or in the config's order.
        placements: in the config's order.
        cells: by row and placement; none where no trial has ended.
        is_number: whether the rows have places on a scale.
        is_gathered: whether each row is an interval.
    """

    path: str
    rows: list[Row]
    placements: list[str]
    cells: dict[tuple[int, str], Cell]
    is_number: bool
    is_gathered: bool


def read_grid(summary: dict[str, Any]) -> Grid | None:
    """Return the cells of a sweep; None where nothing but the placement is searched.

    Args:
        summary: the content of the sweep's `summary.json`.
    """
    trials = [trial for trial in summary["trials"] if trial["score"] is not None]
    paths = dict.fromkeys(path for trial in trials for path in trial["values"])
    path = RATE if RATE in paths else next((path for path in paths if path != PLACEMENT), None)
    if path is None:
        return None
    trials = [trial for trial in trials if path in trial["values"]]
    values = [trial["values"][path] for trial in trials]
    is_number = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
    rows, place = _rows(values, is_number)
    found: dict[tuple[int, str], dict] = {}
    for trial in trials:
        key = place(trial["values"][path]), trial["placement"]
        found[key] = _better(found.get(key), trial, summary["objective"]["direction"])
    return Grid(
        path=path,
        rows=rows,
        placements=list(summary["placements"]),
        cells={key: _cell(trial) for key, trial in found.items()},
        is_number=is_number,
        is_gathered=is_number and len(set(values)) > MOST_ROWS,
    )


def _rows(values: list, is_number: bool):
    """Return the rows, and the function that says into which of them a value falls."""
    if not is_number:
        labels = list(dict.fromkeys(map(str, values)))
        rows = [Row(label, float(number)) for number, label in enumerate(labels)]
        return rows, lambda value: labels.index(str(value))
    distinct = sorted(set(values))
    if len(distinct) <= MOST_ROWS:
        return [Row(_label(value), value) for value in distinct], distinct.index
    low, high = distinct[0], distinct[-1]
    is_log = low > 0 and high / low >= 20
    scale, back = (math.log, math.exp) if is_log else (float, float)
    width = (scale(high) - scale(low)) / MOST_ROWS
    edges = [back(scale(low) + width * number) for number in range(MOST_ROWS + 1)]
    rows = [
        Row(f"{left:.2g} to {right:.2g}", back((scale(left) + scale(right)) / 2))
        for left, right in itertools.pairwise(edges)
    ]
    return rows, lambda value: min(int((scale(value) - scale(low)) / width), MOST_ROWS - 1)


def _label(value: float) -> str:
    return f"{value:g}" if value >= 100 else f"{value:.3g}"


def _better(first: dict | None, second: dict, direction: str) -> dict:
    if first is None:
        return second
    choose = max if direction == "max" else min
    return choose(first, second, key=lambda trial: trial["score"])


def _cell(trial: dict) -> Cell:
    scores = [run["score"] for run in trial["runs"]]
    return Cell(tuple(score for score in scores if score is not None), scores.count(None))
