"""The figures of a sweep: a table of colored cells, and the score over the learning rate."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from bnzoo.config import value_texts
from bnzoo.reporting.curves import (
    HEIGHT,
    LEGEND_ROW,
    WIDTH,
    add_legend,
    percent_ticks,
    set_log_ticks,
)
from bnzoo.reporting.style import COLORS as SERIES
from bnzoo.reporting.style import GRID, INK, MUTED, PAPER, Look, looks, shortened
from bnzoo.reporting.sweep_grid import Grid, Point

ROW_HEIGHT, ROOM = 0.34, 0.75  # inches
COLORS = colormaps["cividis"]  # rises in lightness for every eye, and in print
# Not those of the page, which turn over in the dark: the cells stay as they are.
DARK_TEXT, LIGHT_TEXT = "#111111", "#fefefe"
DIVERGED = "diverged"


def draw_heat_map(grid: Grid, title: str, is_share: bool, best_is_high: bool) -> Figure:
    """Draw the best trial of each cell; larger values of the searched key are higher up.

    Args:
        grid: the trials.
        title: what stands above the axes.
        is_share: whether scores are shares, to be shown in percent.
        best_is_high: whether high scores are good, and light.
    """
    figure = Figure((WIDTH, ROOM + ROW_HEIGHT * len(grid.rows)), layout="constrained")
    axes = figure.add_subplot()
    means = [cell.mean for cell in grid.cells.values() if cell.mean is not None]
    low, high = (min(means), max(means)) if means else (0.0, 1.0)
    for (row, placement), cell in grid.cells.items():
        share = 0.5 if cell.diverged or high == low else (cell.mean - low) / (high - low)
        place = grid.placements.index(placement), row
        _draw_cell(axes, place, cell, share if best_is_high else 1 - share, is_share)
    axes.set_xlim(-0.5, len(grid.placements) - 0.5)
    axes.set_ylim(-0.5, len(grid.rows) - 0.5)
    axes.set_xticks(range(len(grid.placements)), grid.placements)
    labels = [f"{value:g}" for value in grid.rows] if grid.is_number else grid.rows
    axes.set_yticks(range(len(grid.rows)), labels)
    axes.set_xlabel("batch normalization, in relation to the activation")
    axes.set_ylabel(grid.key)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.vlines(np.arange(len(grid.placements) + 1) - 0.5, *axes.get_ylim(), color=MUTED, lw=0.5)
    axes.hlines(np.arange(len(grid.rows) + 1) - 0.5, *axes.get_xlim(), color=MUTED, lw=0.5)
    axes.set_title(title, loc="left", pad=9)
    return figure


def _draw_cell(
    axes: Axes, place: tuple[int, int], cell: Point, lightness: float, is_share: bool
) -> None:
    if cell.diverged:
        total = cell.diverged + len(cell.scores)
        text = DIVERGED if cell.diverged == total else f"{cell.diverged} of {total} {DIVERGED}"
        fill = {"facecolor": "none", "edgecolor": GRID, "hatch": "////"}
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
        style = {"color": INK, "fontsize": 8, "bbox": box}
    else:
        text = f"{100 * cell.mean:.1f} %" if is_share else f"{cell.mean:.3g}"
        fill = {"facecolor": COLORS(lightness)}
        style = {"color": DARK_TEXT if lightness > 0.53 else LIGHT_TEXT}
    axes.add_patch(Rectangle((place[0] - 0.5, place[1] - 0.5), 1, 1, lw=0, **fill))
    axes.text(*place, text, ha="center", va="center", **style)


def draw_scores(grid: Grid, title: str, is_share: bool) -> Figure:
    """Draw the scores over the values of the searched key: lines through a table, else points.

    Args:
        grid: the trials.
        title: what stands above the axes.
        is_share: whether scores are shares, to be shown in percent.
    """
    styles = looks(grid.placements)
    figure = Figure((WIDTH, HEIGHT + LEGEND_ROW), layout="constrained")
    axes = figure.add_subplot()
    has_lines = grid.is_table and grid.is_number
    points = list(grid.cells.values()) if has_lines else grid.points
    points.sort(key=lambda point: point.row)
    for placement, look in styles.items():
        mine = [p for p in points if p.placement == placement and p.mean is not None]
        _draw_placement(axes, grid, mine, look, has_lines)
    _set_scales(axes, grid, is_share)
    axes.set_title(title, loc="left", pad=9)
    axes.grid(True, axis="y")
    entries = [(name, Line2D([], [], **_style(look, has_lines))) for name, look in styles.items()]
    if diverged := [point for point in points if point.diverged]:
        _draw_diverged(axes, grid, diverged, styles)
        entries.append((DIVERGED, Line2D([], [], color=INK, marker="x", ms=7, mew=2, lw=0)))
    add_legend(figure, entries, len(entries))
    return figure


def _style(look: Look, has_lines: bool) -> dict:
    line = {"ls": look.dashes, "lw": 1.6, "ms": 4} if has_lines else {"ls": "none", "ms": 5.5}
    return {"color": look.color, "marker": look.marker, **line}


def _draw_placement(
    axes: Axes, grid: Grid, points: list[Point], look: Look, has_lines: bool
) -> None:
    places = [_place(grid, point) for point in points]
    low, high = ([end(point.scores) for point in points] for end in (min, max))
    if has_lines:
        axes.fill_between(places, low, high, color=look.color, alpha=0.18, lw=0)
    else:
        axes.vlines(places, low, high, color=look.color, lw=1.2)
    axes.plot(places, [point.mean for point in points], **_style(look, has_lines))


def _place(grid: Grid, point: Point) -> float:
    return grid.rows[point.row] if grid.is_number else point.row


def _draw_diverged(axes: Axes, grid: Grid, diverged: list[Point], styles: dict[str, Look]) -> None:
    """Mark divergence below all scores, side by side where placements share a value."""
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.axhline(low, color=MUTED, lw=0.5)
    axes.set_ylim(low - (0.02 + 0.05 * len(styles)) * (high - low), high)
    for point in diverged:
        height = 0.03 + 0.045 * grid.placements.index(point.placement)  # of the axes
        color, place = styles[point.placement].color, _place(grid, point)
        axes.plot(
            place, height, "x", color=color, ms=7, mew=2, transform=axes.get_xaxis_transform()
        )


def _set_scales(axes: Axes, grid: Grid, is_share: bool) -> None:
    if not grid.is_number:
        axes.set_xticks(range(len(grid.rows)), grid.rows)
    elif grid.is_log:
        axes.set_xscale("log")
        set_log_ticks(axes.xaxis, max(grid.rows) / min(grid.rows))
    if is_share:
        axes.yaxis.set_major_formatter(percent_ticks())
    axes.margins(x=0.04, y=0.08)
    axes.autoscale_view()
    axes.set_xlabel(grid.key)


def draw_importance(keys: dict[str, dict]) -> Figure:
    """Draw the share of each key as a bar with its interval, the largest on top.

    Args:
        keys: of `importance` in a sweep's summary.
    """
    figure = Figure((WIDTH, ROOM + ROW_HEIGHT * len(keys)), layout="constrained")
    axes = figure.add_subplot()
    shares = [one["share"] for one in keys.values()]
    ends = [one["interval"] for one in keys.values()]
    axes.barh(range(len(keys)), shares, height=0.6, color=SERIES[1])
    axes.hlines(range(len(keys)), *zip(*ends, strict=True), color=INK, lw=1.6)
    axes.axvline(0, color=MUTED, lw=0.8)
    names = [shortened(name) for name in value_texts(dict.fromkeys(keys))]
    axes.set_yticks(range(len(keys)), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(percent_ticks())
    axes.set_axisbelow(True)
    axes.grid(True, axis="x")
    axes.set_xlabel("share of the differences between trials")
    axes.set_title("Which key mattered most", loc="left", pad=9)
    return figure
