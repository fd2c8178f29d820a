"""The descent of the loss over two single weights, as a path in three dimensions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnzoo.reporting import formatting
from bnzoo.reporting.curves import DIVERGED
from bnzoo.reporting.page import Picture, drawn, save, svg_text
from bnzoo.reporting.series import RunRows, VariantRuns
from bnzoo.reporting.style import INK, PAPER, Look, looks, shortened

SIZE = 3.4  # inches of one subplot


def trajectory_pictures(folder: Path, variants: Sequence[VariantRuns]) -> list[Picture]:
    """Draw a path per variant; on the page each is alone, so that a phone can stack them."""
    styles = looks([variant.name for variant in variants])
    # Of each variant the first completed run whose weights were followed, else a diverged one.
    runs = {
        variant.name: run
        for variant in variants
        for run in reversed([*variant.completed, *variant.diverged])
        if run.weight_trajectory()
    }
    if not runs:
        return []
    save(drawn(draw_trajectories, runs, styles, list(runs)), folder, "weights_path")
    return [
        Picture(
            svg_text(drawn(draw_trajectories, runs, styles, [name]), f"path{number}"),
            f"Path of the training loss over two weights, {formatting.run_name(name, run.seed)}.",
        )
        for number, (name, run) in enumerate(runs.items())
    ]


def draw_trajectories(
    runs: dict[str, RunRows], styles: dict[str, Look], names: Sequence[str]
) -> Figure:
    """Draw a subplot for each variant named.

    All subplots of a study share the scale of the loss; each weight has a scale of its own, as
    without batch normalization they move much less.

    Args:
        runs: a run of each variant, all of them for the common scale.
        styles: how each variant looks.
        names: the variants to draw, side by side.
    """
    counted = [run for run in runs.values() if not run.has_diverged] or list(runs.values())
    highest = max(run.weight_trajectory()[1][:, 2].max() for run in counted)
    figure = Figure((SIZE * len(names), SIZE * 1.02))
    for place, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), place + 1, projection="3d")
        _draw_trajectory(axes, runs[name], styles[name], highest)
        title = shortened(formatting.run_name(name, runs[name].seed), 36)
        axes.set_title(title, y=1.0)
        axes.set_zlim(0, highest * 1.02)
    figure.subplots_adjust(left=0.02, right=0.94, bottom=0.14, top=0.96, wspace=0.12)
    return figure


def _draw_trajectory(axes, run: RunRows, look: Look, limit: float) -> None:
    names, points = run.weight_trajectory()
    within = np.logical_and.accumulate(points[:, 2] <= limit)
    points = points[within] if within[0] else points[:1]
    axes.plot(*points.T, color=look.color, marker=".", ms=4, lw=1.3)
    axes.plot(*points[:1].T, "o", color=look.color, mfc=PAPER, ms=7, mew=1.6, label="first epoch")
    kind, label = ("x", DIVERGED) if run.has_diverged else ("*", "last epoch")
    axes.plot(*points[-1:].T, kind, color=look.color, ms=11, mew=1.6, label=label)
    axes.set_xlabel(names[0], fontsize=7.5, labelpad=1)
    axes.set_ylabel(names[1], fontsize=7.5, labelpad=1)
    axes.set_zlabel("training loss", fontsize=7.5, labelpad=0)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2, labelcolor=INK, fontsize=8
    )
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis.set_major_locator(MaxNLocator(4))
        axis.set_tick_params(labelsize=7.5, pad=-1)
    axes.view_init(elev=24, azim=-55)
    axes.set_box_aspect((1, 1, 0.9), zoom=0.93)
