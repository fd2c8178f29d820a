"""The descent of the loss over two single weights, as a path in three dimensions."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnzoo.reporting import formatting
from bnzoo.reporting.curves import DIVERGED
from bnzoo.reporting.series import RunRows, VariantRuns, WeightPath
from bnzoo.reporting.style import INK, PAPER, Look, looks, shortened

SIZE = 3.4  # inches of one subplot
START, END = "first epoch", "last epoch"


def draw_paths(variants: Sequence[VariantRuns], names: Sequence[str]) -> Figure:
    """Draw a subplot for each variant named whose runs followed two weights.

    All subplots of a study share the scale of the loss; each weight has a scale of its own, as
    without batch normalization they move much less.

    Args:
        variants: all of the study's variants, for their looks and the common scale.
        names: which to draw, side by side.
    """
    found = {item.name: path for item in variants if (path := item.first_path())}
    styles = looks([variant.name for variant in variants])
    highest = _highest_loss(found.values())
    shown = [name for name in names if name in found]
    figure = Figure((SIZE * len(shown), SIZE * 1.02))
    for place, name in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), place + 1, projection="3d")
        _draw_path(axes, *found[name], styles[name], highest)
        axes.set_title(
            shortened(formatting.run_name(name, found[name][0].seed), 36), parse_math=False, y=1.0
        )
        axes.set_zlim(0, highest * 1.02)
    figure.subplots_adjust(left=0.02, right=0.94, bottom=0.14, top=0.96, wspace=0.12)
    return figure


def _highest_loss(found) -> float:
    """Return what the scale must hold: the completed runs', if there are any."""
    losses = {run.has_diverged: [] for run, _ in found}
    for run, path in found:
        losses[run.has_diverged].append(path.points[:, 2].max())
    return max(losses.get(False) or losses[True])


def _draw_path(axes, run: RunRows, path: WeightPath, look: Look, limit: float) -> None:
    within = np.minimum.accumulate(path.points[:, 2] <= limit)
    points = path.points[within] if within[0] else path.points[:1]
    axes.plot(*points.T, color=look.color, marker=".", ms=4, lw=1.3)
    axes.plot(*points[:1].T, "o", color=look.color, mfc=PAPER, ms=7, mew=1.6, label=START)
    kind, label = ("x", DIVERGED) if run.has_diverged else ("*", END)
    axes.plot(*points[-1:].T, kind, color=look.color, ms=11, mew=1.6, label=label)
    axes.set_xlabel(path.names[0], fontsize=7.5, labelpad=1)
    axes.set_ylabel(path.names[1], fontsize=7.5, labelpad=1)
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
