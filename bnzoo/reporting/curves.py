"""Accuracy and loss over epochs: a line per variant, a band over its seeds, marks at the end."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bnzoo.reporting import formatting
from bnzoo.reporting.page import Picture, drawn, picture
from bnzoo.reporting.series import RunRows, VariantRuns
from bnzoo.reporting.style import INK, Look, looks, shortened

WIDTH, HEIGHT, LEGEND_ROW = 4.5, 3.0, 0.22  # inches; at 9 points legible on a phone too
LEGEND_CHARACTERS = 60
DIVERGED = "diverged after this"
LOG_RATIO = 20  # a loss that falls further than this shows its end only on a log scale
DIVERGED_ROOM = 10  # diverged runs may stretch the loss up to this times what the others need


def curve_pictures(folder: Path, variants: Sequence[VariantRuns], summary: dict) -> list[Picture]:
    """Draw each metric and the training loss over epochs, and write all as PNG."""
    pictures = []
    for name, column, title in _curves(variants, summary):
        figure = drawn(draw_curves, variants, column, title)
        description, caption = _description(variants, column, title), _caption(variants, column)
        pictures.append(picture(figure, folder, name, description, caption))
    return pictures


def draw_curves(variants: Sequence[VariantRuns], column: str, title: str) -> Figure:
    """Draw one column of the histories, accuracies in percent.

    Args:
        variants: the study's variants, the baseline first.
        column: a column of `history.csv`.
        title: what stands above the axes.
    """
    styles = looks([variant.name for variant in variants])
    draw = _draw_single_epoch if _num_epochs(variants, column) == 1 else _draw_epochs
    figure = draw(variants, column, styles)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def _num_epochs(variants: Sequence[VariantRuns], column: str) -> int:
    return max((len(run.values(column)) for item in variants for run in item.runs), default=0)


def _draw_epochs(variants: Sequence[VariantRuns], column: str, styles: dict[str, Look]) -> Figure:
    entries = [(shortened(name), Line2D([], [], **_stroke(look))) for name, look in styles.items()]
    if any(variant.diverged for variant in variants):
        entries.append((DIVERGED, Line2D([], [], color=INK, marker="x", ms=7, mew=2, lw=0)))
    columns = legend_columns([name for name, _ in entries])
    rows = math.ceil(len(entries) / columns)
    figure = Figure((WIDTH, HEIGHT + LEGEND_ROW * rows), layout="constrained")
    axes = figure.add_subplot()
    _set_scale(axes, variants, column)
    for variant in variants:
        _draw_variant(axes, variant, column, styles[variant.name])
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=(1, 2, 5, 10), integer=True, min_n_ticks=1))
    last = _num_epochs(variants, column)
    room = max(0.5, 0.03 * last)  # less than 1 for all but long runs: no run has an epoch 0
    axes.set_xlim(1 - min(room, 0.9), last + room)
    axes.grid(True, axis="y")
    add_legend(figure, entries, columns)
    return figure


def _draw_variant(axes: Axes, variant: VariantRuns, column: str, look: Look) -> None:
    line = variant.mean(column)
    count = len(line.epochs)
    if count:
        every = max(1, round(count / 8))  # about eight markers, the last point among them
        axes.fill_between(line.epochs, line.low, line.high, color=look.color, alpha=0.18, lw=0)
        (drawn_line,) = axes.plot(line.epochs, line.values, **_stroke(look))
        drawn_line.set_markevery(((count - 1) % every, every))
    for run in variant.diverged:
        values = run.values(column)
        if len(values):
            axes.plot(range(1, len(values) + 1), values, color=look.color, ls=look.dashes, lw=0.9)
            # A cross at the last point, at the edge if that lies beyond it.
            end = len(values), np.clip(values[-1], *axes.get_ylim())
            axes.plot(*end, "x", color=look.color, ms=8, mew=2, clip_on=False, zorder=5)


def _draw_single_epoch(
    variants: Sequence[VariantRuns], column: str, styles: dict[str, Look]
) -> Figure:
    """Draw a row per variant, for one epoch has no curve: its seeds small, their mean large."""
    figure = Figure((WIDTH, 0.9 + 0.4 * len(variants)), layout="constrained")
    axes = figure.add_subplot()
    for row, variant in enumerate(variants):
        color, _, marker = styles[variant.name]
        for runs, kind in ((variant.completed, marker), (variant.diverged, "x")):
            seeds = _values(runs, column)
            axes.plot(seeds, [row] * len(seeds), kind, color=color, ms=4, alpha=0.5)
        for mean in variant.mean(column).values:
            axes.plot(mean, row, marker, color=color, ms=8)
            axes.annotate(
                _value(mean, column), (mean, row), (0, 7), textcoords="offset points", ha="center"
            )
    axes.set_yticks(range(len(variants)), [shortened(name) for name in styles])
    axes.set_ylim(len(variants) - 0.5, -0.7)
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if formatting.is_share(column):
        axes.xaxis.set_major_formatter(percent_ticks())
    axes.grid(True, axis="x")
    return figure


def _set_scale(axes: Axes, variants: Sequence[VariantRuns], column: str) -> None:
    values = _values_to_show(variants, column)
    if not values.size:
        return
    low, high = values.min(), values.max()
    is_share = formatting.is_share(column)
    room = 0.06 * max(high - low, 0.01 if is_share else 1e-6)
    axes.set_ylim(low - room, high + room)
    if is_share:
        axes.set_ylim(top=min(high + room, 1 + room / 3))
        axes.yaxis.set_major_formatter(percent_ticks())
    elif low > 0 and high / low > LOG_RATIO:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.25, high * 1.25)
        set_log_ticks(axes.yaxis, high / low)


def set_log_scales(axes: Axes, *names: str) -> None:
    """Put `"x"`, `"y"` or both on a log scale with plain numbers, once everything is drawn."""
    for name in names:
        axis = getattr(axes, f"{name}axis")
        axes.set(**{f"{name}scale": "log"})
        low, high = axis.get_view_interval()
        set_log_ticks(axis, high / low)


def percent_ticks() -> FuncFormatter:
    """Return the labels of an axis of shares."""
    return FuncFormatter(lambda value, _: f"{100 * value:.4g} %")


def set_log_ticks(axis: Axis, ratio: float) -> None:
    """Label a log axis with plain numbers, so that it has at least three of them.

    Args:
        axis: of the log scale.
        ratio: the largest value on it over the smallest.
    """
    subs = (1, 2, 5) if ratio < 1000 else (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _values_to_show(variants: Sequence[VariantRuns], column: str) -> np.ndarray:
    """Collect what the scale must hold: a last loss of 1e30 is not to flatten the others."""
    needed = _values([run for item in variants for run in item.completed], column)
    others = _values([run for item in variants for run in item.diverged], column)
    if not needed.size or formatting.is_share(column):
        return needed if needed.size else others
    return np.concatenate([needed, others[others <= DIVERGED_ROOM * needed.max()]])


def _values(runs: Sequence[RunRows], column: str) -> np.ndarray:
    return np.concatenate([run.values(column) for run in runs] or [[]])


def _stroke(look: Look) -> dict[str, Any]:
    return {"color": look.color, "ls": look.dashes, "marker": look.marker, "ms": 4, "lw": 1.6}


def legend_columns(names: Sequence[str]) -> int:
    """Return how many of these names stand side by side below a figure."""
    return max(1, LEGEND_CHARACTERS // (max(map(len, names)) + 8))


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
        text.set_text(name)


def _curves(variants: Sequence[VariantRuns], summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, column and title of each figure.

    They are the metrics, on the validation data where there is any, and the training loss; where
    there are no metrics, the loss on the validation data too.
    """
    columns = {
        column for item in variants for run in item.runs for row in run.rows for column in row
    }
    names = sorted(name for name in columns if f"val_{name}" in columns and name != "loss")
    found = [(name, *_measured(name, variants, summary)) for name in names]
    if not names and _num_epochs(variants, "val_loss"):
        found = [("val_loss", *_measured("loss", variants, summary))]
    found.append(("loss", "loss", "Training loss of each epoch"))
    steps = summary["config"]["train"].get("steps_per_epoch")
    of_steps = f"each epoch of {formatting.plural(steps, 'step')}" if steps else "each epoch"
    return [(*names, title.replace("each epoch", of_steps)) for *names, title in found]


def _measured(
    name: str, variants: Sequence[VariantRuns], summary: dict[str, Any]
) -> tuple[str, str]:
    """Choose the column of a metric, and say on which examples it was measured."""
    words = name.replace("_", " ")
    if not _num_epochs(variants, f"val_{name}"):
        return name, f"Training {words} of each epoch"
    if summary["config"]["data"]["validation"] == "test":
        return f"val_{name}", f"Test {words} after each epoch (published protocol)"
    return f"val_{name}", f"Validation {words} after each epoch"


def _value(value: float, column: str) -> str:
    return formatting.percent(value) if formatting.is_share(column) else f"{value:.4g}"


def _description(variants: Sequence[VariantRuns], column: str, title: str) -> str:
    """Put a figure into words, for who cannot see it."""
    ends = [
        f"{variant.name} ends at {_value(values[-1], column)} in epoch {len(values)}"
        for variant in variants
        if len(values := variant.mean(column).values)
    ]
    return f"{title}. {'; '.join(ends) or 'No run completed'}."


def _caption(variants: Sequence[VariantRuns], column: str) -> str:
    runs = max(len(variant.completed) for variant in variants)
    if not runs:
        return "No run completed: each line is a run that diverged."
    if _num_epochs(variants, column) == 1:
        return "After the only epoch. Large: mean over the seeds. Small: each seed."
    if runs == 1:
        return "One run per variant: there is no band, and a line is a single seed."
    lengths = {len(run.values(column)) for variant in variants for run in variant.completed}
    uneven = " Some runs stopped early: each counts as long as it went." if len(lengths) > 1 else ""
    return f"Line: mean over the seeds. Band: from the lowest to the highest seed.{uneven}"
