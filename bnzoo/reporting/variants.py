"""What the variants of a study came to: along the numbers in their names, or in a row each."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bnzoo.reporting import formatting
from bnzoo.reporting.curves import (
    HEIGHT,
    LEGEND_ROW,
    WIDTH,
    add_legend,
    legend_columns,
    percent_ticks,
)
from bnzoo.reporting.page import Picture, drawn, picture
from bnzoo.reporting.style import INK, Look, looks, shortened

NAME = "variants"
NUMBER = re.compile(r"(0|[1-9]\d*)(e-?\d+)?")
LEAST = 3  # numbers that make a line
LOG_RATIO = 20  # of the largest number to the smallest, beyond which their axis is logarithmic


class _Point(NamedTuple):
    """A variant: the line or row that it belongs to, its place there, and its runs."""

    line: str
    x: float
    values: list[float]  # of the runs that have one
    diverged: int


def variant_picture(folder: Path, summary: dict[str, Any], metric: str) -> Picture:
    """Draw what each variant came to, and write it as PNG too.

    Where all names end in numbers, as `before_0` and `before_1e-2`, and three or more have one
    beginning, variants are points of lines such as `before`; else they have a row each, and one
    look by the last word of their name.

    Args:
        folder: of the figures.
        summary: of the study.
        metric: the key of what the variants are judged by.
    """
    points = _points(summary["variants"], metric)
    draw, caption = _draw_rows, "Large: mean over the seeds. Small: each seed."
    if points:
        draw, caption = _draw_lines, "Line: mean over the seeds. Band: from lowest to highest."
    else:
        points = [_point(name, 0.0, one, metric) for name, one in summary["variants"].items()]
    if any(point.diverged for point in points):
        caption += " Crosses: runs that diverged, and have no value."
    title = formatting.metric(metric).capitalize()
    figure = drawn(draw, points, metric, title, _axis_label(summary["variants"], points))
    words = "; ".join(
        f"{name} {formatting.score(one[metric], metric)}"
        for name, one in summary["variants"].items()
    )
    return picture(figure, folder, NAME, f"{formatting.metric(metric)}: {words}.", caption)


def _point(line: str, x: float, variant: dict[str, Any], metric: str) -> _Point:
    values = [value for value in variant[metric]["values"] if value is not None]
    return _Point(line, x, values, variant["diverged"])


def _points(variants: dict[str, dict[str, Any]], metric: str) -> list[_Point]:
    """Return the variants as points of lines; none where not all names end in numbers."""
    found = []
    for name, variant in variants.items():
        line, _, number = name.rpartition("_")
        # `09` may be 0.9 or 9, and 1e999 is no float: words.
        if not line or not NUMBER.fullmatch(number) or math.isinf(float(number)):
            return []
        found.append(_point(line, float(number), variant, metric))
    lengths = Counter(point.line for point in found)
    return found if max(lengths.values()) >= LEAST else []


def _axis_label(variants: dict[str, dict[str, Any]], points: Sequence[_Point]) -> str:
    """Name the keys whose values are the numbers of the variants: `learning rate`."""
    keys = [
        key
        for variant, point in zip(variants.values(), points, strict=True)
        for key, value in variant["overrides"].items()
        if value == point.x
    ]
    often = [key for key in dict.fromkeys(keys) if keys.count(key) >= LEAST]
    return " or ".join(key.rpartition(".")[2].replace("_", " ") for key in often)


def _draw_lines(points: Sequence[_Point], metric: str, title: str, label: str) -> Figure:
    styles = looks(list(dict.fromkeys(point.line for point in points)))
    handles = [
        (
            shortened(name),
            Line2D([], [], color=look.color, ls=look.dashes, marker=look.marker, ms=5),
        )
        for name, look in styles.items()
    ]
    if any(point.diverged for point in points):
        handles.append(("diverged", Line2D([], [], color=INK, marker="x", ms=6, mew=1.8, lw=0)))
    columns = legend_columns([name for name, _ in handles])
    rows = math.ceil(len(handles) / columns)
    figure = Figure((WIDTH, HEIGHT + LEGEND_ROW * rows), layout="constrained")
    axes = figure.add_subplot()
    numbers = sorted({point.x for point in points})
    _set_axis(axes, numbers)
    axes.set_xlabel(label)
    if formatting.is_share(metric):
        axes.yaxis.set_major_formatter(percent_ticks())
    for line, look in styles.items():
        ours = sorted((one for one in points if one.line == line), key=lambda one: one.x)
        _draw_line(axes, ours, look)
    for name, look in styles.items():  # crosses below all values, side by side
        _draw_diverged(axes, [one for one in points if one.line == name], look, list(styles))
    add_legend(figure, handles, columns)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def _draw_line(axes: Axes, points: Sequence[_Point], look: Look) -> None:
    """Draw a line through the means; a number at which no run has a value breaks it."""
    x = [point.x for point in points]
    low, mean, high = (
        [part(point.values) if point.values else np.nan for point in points]
        for part in (np.min, np.mean, np.max)
    )
    axes.fill_between(x, low, high, color=look.color, alpha=0.18, lw=0)
    axes.plot(x, mean, color=look.color, ls=look.dashes, marker=look.marker, ms=5, lw=1.6)


def _draw_diverged(axes: Axes, points: Sequence[_Point], look: Look, lines: Sequence[str]) -> None:
    height = 0.03 + 0.045 * lines.index(points[0].line)
    at = [point.x for point in points if point.diverged]
    transform = axes.get_xaxis_transform()
    axes.plot(at, [height] * len(at), "x", color=look.color, ms=6, mew=1.8, transform=transform)


def _set_axis(axes: Axes, numbers: Sequence[float]) -> None:
    if numbers[0] > 0 and numbers[-1] / numbers[0] > LOG_RATIO:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(numbers))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(True, axis="y")


def _draw_rows(points: Sequence[_Point], metric: str, title: str, _: str) -> Figure:
    words = {point.line: point.line.rpartition("_")[2] for point in points}
    shared = len(set(words.values())) < len(words)
    styles = looks(list(dict.fromkeys(words.values() if shared else words)))
    figure = Figure((WIDTH, 0.9 + 0.3 * len(points)), layout="constrained")
    axes = figure.add_subplot()
    for row, point in enumerate(points):
        look = styles[words[point.line] if shared else point.line]
        axes.plot(point.values, [row] * len(point.values), look.marker, color=look.color, ms=4,
                  alpha=0.5)  # fmt: skip
        if point.values:
            axes.plot(np.mean(point.values), row, look.marker, color=look.color, ms=8)
        if point.diverged:
            axes.plot(0.01, row, "x", color=look.color, ms=6, mew=1.8,
                      transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_yticks(range(len(points)), [shortened(point.line) for point in points])
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if formatting.is_share(metric):
        axes.xaxis.set_major_formatter(percent_ticks())
    axes.grid(True, axis="x")
    figure.suptitle(title, x=0.02, ha="left")
    return figure
