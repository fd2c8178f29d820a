"""A sweep's trials as its figures show them: over one searched key, by placement."""

import math
from dataclasses import dataclass
from typing import Any

from bnzoo.config.tune import PLACEMENT, RATE

MOST_ROWS = 12  # of a table; more values are points on an axis
LOG_RATIO = 20  # of listed values, from which on an axis of theirs is logarithmic


@dataclass(frozen=True)
class Point:
    """One trial.

    Attributes:
        row: the place of its value of the key among the rows.
        placement: where batch normalization stands.
        scores: one per seed that did not diverge.
        diverged: how many seeds did.
    """

    row: int
    placement: str
    scores: tuple[float, ...]
    diverged: int

    @property
    def mean(self) -> float | None:
        """The mean score, or None where a seed diverged."""
        return None if self.diverged else math.fsum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Grid:
    """The trials of a sweep that have ended.

    Attributes:
        path: the key that is drawn over: the learning rate, where it is searched.
        rows: its values, from the smallest or, where they are no numbers, as texts in order.
        placements: in the config's order.
        points: one per trial.
        cells: by row and placement, the best trial there.
        is_number: whether the rows have places on a scale.
        is_log: whether that scale is logarithmic.
        is_table: whether the rows were given one by one, and most have a trial per placement.
    """

    path: str
    rows: list[Any]
    placements: list[str]
    points: list[Point]
    cells: dict[tuple[int, str], Point]
    is_number: bool
    is_log: bool
    is_table: bool

    @property
    def key(self) -> str:
        """The key in words: `learning rate`."""
        return self.path.rpartition(".")[2].replace("_", " ")


def read_grid(summary: dict[str, Any]) -> Grid | None:
    """Return the trials of a sweep; None where nothing but the placement is searched.

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
    values = values if is_number else [str(value) for value in values]
    rows = sorted(set(values)) if is_number else list(dict.fromkeys(values))
    points, cells = [], {}
    # The best is the last to be put into its cell.
    sign = 1 if summary["objective"]["direction"] == "max" else -1
    for trial, value in sorted(
        zip(trials, values, strict=True), key=lambda t: sign * t[0]["score"]
    ):
        scores = [run["score"] for run in trial["runs"]]
        measured = tuple(score for score in scores if score is not None)
        point = Point(rows.index(value), trial["placement"], measured, scores.count(None))
        points.append(point)
        cells[point.row, point.placement] = point
    searched = (summary["config"].get("tune") or {"space": {}})["space"].get(path)
    is_range = isinstance(searched, dict)
    is_listed = not is_range or searched["steps"] is not None
    is_wide = is_number and rows[0] > 0 and rows[-1] / rows[0] >= LOG_RATIO
    placements = list(summary["placements"])
    return Grid(
        path=path,
        rows=rows,
        placements=placements,
        points=points,
        cells=cells,
        is_number=is_number,
        is_log=searched["scale"] == "log" if is_range else is_wide,
        is_table=is_listed
        and len(rows) <= MOST_ROWS
        and 2 * len(cells) >= len(rows) * len(placements),
    )
