"""Accuracy and loss over epochs: a line per variant, a band over its seeds, marks at the end."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bnzoo.reporting.series import Line, VariantRuns
from bnzoo.reporting.style import INK, Look, looks, shortened

WIDTH, HEIGHT, LEGEND_ROW = 4.5, 3.0, 0.22  # inches; at 9 points legible on a phone too
LEGEND_CHARACTERS = 60
DIVERGED = "diverged after this"
LOG_RATIO = 20  # a loss that falls further than this shows its end only on a log scale
DIVERGED_ROOM = 10  # diverged runs may stretch the loss up to this times what the others need


def draw_curves(variants: Sequence[VariantRuns], column: str, title: str) -> Figure:
    """Draw one column of the histories, accuracies in percent.

    Args:
        variants: the study's variants, the baseline first.
        column: a column of `history.csv`.
        title: what stands above the axes.
    """
    styles = looks([variant.name for variant in variants])
    entries = _legend_entries(variants, styles)
    columns = max(1, LEGEND_CHARACTERS // (max(len(name) for name, _ in entries) + 8))
    rows = math.ceil(len(entries) / columns)
    figure = Figure((WIDTH, HEIGHT + LEGEND_ROW * rows), layout="constrained")
    axes = figure.add_subplot()
    _set_scale(axes, variants, column)
    for variant in variants:
        _draw_variant(axes, variant, column, styles[variant.name])
    axes.set_title(title, loc="left", pad=9, parse_math=False)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=(1, 2, 5, 10), integer=True, min_n_ticks=1))
    axes.set_xlim(*_epochs_shown(variants))
    axes.grid(True, axis="y")
    add_legend(figure, entries, columns)
    return figure


def _draw_variant(axes: Axes, variant: VariantRuns, column: str, look: Look) -> None:
    line = variant.mean(column)
    if line.epochs.size:
        axes.fill_between(line.epochs, line.low, line.high, color=look.color, alpha=0.18, lw=0)
        axes.plot(line.epochs, line.values, **_stroke(look, line.epochs.size), lw=1.6)
    for run in variant.diverged():
        _draw_diverged(axes, run.line(column), look)


def _stroke(look: Look, num_points: int) -> dict:
    every = max(1, round(num_points / 8))  # about eight markers, the last point among them
    return {
        "color": look.color,
        "linestyle": look.dashes,
        "marker": look.marker,
        "markersize": 4,
        "markevery": ((num_points - 1) % every, every),
    }


def _draw_diverged(axes: Axes, line: Line, look: Look) -> None:
    """Draw a run as far as it went, and a cross at its last point, at the edge if beyond it."""
    if not line.epochs.size:
        return
    axes.plot(line.epochs, line.values, color=look.color, linestyle=look.dashes, lw=0.9)
    low, high = axes.get_ylim()
    end = np.clip(line.values[-1], low, high)
    axes.plot(line.epochs[-1:], [end], "x", color=look.color, ms=8, mew=2, clip_on=False, zorder=5)


def _set_scale(axes: Axes, variants: Sequence[VariantRuns], column: str) -> None:
    values = _values_to_show(variants, column)
    if not values.size:
        return
    low, high = values.min(), values.max()
    if column.endswith("accuracy"):
        room = 0.06 * max(high - low, 0.01)
        axes.set_ylim(low - room, min(high + room, 1 + room / 3))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    elif low > 0 and high / low > LOG_RATIO:
        axes.set_yscale("log")
        subs = (1, 2, 5) if high / low < 1000 else (1,)
        axes.set_ylim(low / 1.25, high * 1.25)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        room = 0.06 * max(high - low, 1e-6)
        axes.set_ylim(low - room, high + room)


def _epochs_shown(variants: Sequence[VariantRuns]) -> tuple[float, float]:
    last = max((len(run.rows) for item in variants for run in item.runs), default=1)
    room = max(0.5, 0.03 * last)  # less than 1 for all but long runs: no run has an epoch 0
    return 1 - min(room, 0.9), last + room


def _values_to_show(variants: Sequence[VariantRuns], column: str) -> np.ndarray:
    """Collect what the scale must hold: a last loss of 1e30 is not to flatten the others."""
    runs = [(run.has_diverged, run.line(column).values) for item in variants for run in item.runs]
    completed = [values for has_diverged, values in runs if not has_diverged and values.size]
    diverged = [values for has_diverged, values in runs if has_diverged and values.size]
    if not completed:
        return np.concatenate(diverged) if diverged else np.array([])
    needed = np.concatenate(completed)
    if column.endswith("accuracy"):
        return needed
    others = np.concatenate([*diverged, needed[:0]])
    return np.concatenate([needed, others[others <= DIVERGED_ROOM * needed.max()]])


def _legend_entries(variants, styles: dict[str, Look]) -> list[tuple[str, Line2D]]:
    entries = [
        (
            shortened(name),
            Line2D([], [], color=look.color, ls=look.dashes, marker=look.marker, ms=4, lw=1.6),
        )
        for name, look in styles.items()
    ]
    if any(variant.diverged() for variant in variants):
        entries.append((DIVERGED, Line2D([], [], color=INK, marker="x", ms=7, mew=2, lw=0)))
    return entries


def add_legend(figure: Figure, entries: list[tuple[str, Line2D]], columns: int) -> None:
    """Put names with their looks below a figure."""
    legend = figure.legend(
        [handle for _, handle in entries],
        ["a variant"] * len(entries),
        loc="outside lower center",
        ncols=min(columns, len(entries)),
        handlelength=3.6,
        columnspacing=1.6,
    )
    # Set afterwards: matplotlib leaves out labels that begin with an underscore.
    for text, (name, _) in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
