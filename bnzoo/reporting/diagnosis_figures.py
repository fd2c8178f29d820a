"""The figures of a diagnosis: the worst layer's data, and how far off each layer is over depth."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bnzoo.reporting.curves import HEIGHT, LEGEND_ROW, WIDTH, add_legend, set_log_ticks
from bnzoo.reporting.formatting import MINUS
from bnzoo.reporting.page import Picture, drawn, svg_text
from bnzoo.reporting.style import COLORS, GRID, INK, MUTED, shortened

REACH = 3  # the scale goes so many widths of the data beyond it, and no farther
MOST_OVER = 1.0  # standard deviations times density; the peak of a normal curve is at 0.4
HEADROOM = 1.3  # over the highest bar; a narrower curve is cut off there
NEAREST = 1e-3  # standard deviations: nothing is drawn nearer on the log scale
DATA = {"color": COLORS[1], "ls": "-", "lw": 1.8}
MOVING = {"color": COLORS[2], "ls": (0, (7, 1.5, 1.5, 1.5)), "lw": 1.8}
DISTANCE = {"color": COLORS[2], "marker": "o", "ms": 4, "ls": "none"}
NOISE = {"color": COLORS[0], "marker": "x", "ms": 4, "ls": "none"}


def data_picture(found: dict[str, Any]) -> Picture:
    """Draw what a layer is given against what its moving statistics expect.

    Args:
        found: `picture` of a record.
    """
    data, moving = (
        f"mean {one['mean']:.3g} and standard deviation {_stddev(one):.3g}"
        for one in (found["data"], found["moving"])
    )
    return Picture(
        svg_text(drawn(draw_data, found), "data"),
        f"What layer {found['layer']} is given in channel {found['channel']} has {data}; its "
        f"moving statistics say {moving}.",
        "Gray: the values that reach the layer. Inference takes them for the dashed curve.",
    )


def draw_data(found: dict[str, Any]) -> Figure:
    """Draw a histogram of one channel with the normal curves of the data and of the layer."""
    figure = Figure((WIDTH, HEIGHT + 2 * LEGEND_ROW), layout="constrained")
    axes = figure.add_subplot()
    axes.stairs(found["density"], found["edges"], fill=True, color=GRID)
    low, high = _set_limits(axes, found)
    # Many values may be the same, such as the zeros behind a ReLU: their bar is cut off.
    peak = MOST_OVER / max(_stddev(found["data"]), np.finfo(float).tiny)
    top = HEADROOM * min(max(found["density"]), peak)
    axes.set_ylim(0, top)
    for one, look in ((found["data"], DATA), (found["moving"], MOVING)):
        _draw_normal(axes, one, look)
    mean = found["moving"]["mean"]
    if not low <= mean <= high:
        is_right = mean > high
        end, inside = (high, low) if is_right else (low, high)
        axes.annotate(
            _number(mean),
            (end, 0.85 * top),
            (end + 0.12 * (inside - end), 0.85 * top),
            ha="right" if is_right else "left",
            va="center",
            color=INK,
            arrowprops={"arrowstyle": "->", "color": MOVING["color"], "lw": 1.8},
        )
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(f"input of channel {found['channel']}")
    figure.suptitle(f"What {shortened(found['layer'], 36)} is given", x=0.02, ha="left")
    entries = [
        (f"{name}: {_number(one['mean'])} ± {_number(_stddev(one))}", Line2D([], [], **look))
        for name, one, look in (
            ("the data", found["data"], DATA),
            ("moving statistics", found["moving"], MOVING),
        )
    ]
    add_legend(figure, entries, 1)
    return figure


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", MINUS)


def _set_limits(axes: Axes, found: dict[str, Any]) -> tuple[float, float]:
    """Show the data and the curve of the moving statistics, if that is anywhere near."""
    low, high = found["edges"][0], found["edges"][-1]
    room, moving = REACH * (high - low), found["moving"]
    ends = (moving["mean"] + side * 3 * _stddev(moving) for side in (-1, 1))
    left, right = (float(np.clip(end, low - room, high + room)) for end in ends)
    axes.set_xlim(min(low, left), max(high, right))
    return axes.get_xlim()


def _draw_normal(axes: Axes, one: dict[str, float], look: dict[str, Any]) -> None:
    stddev = _stddev(one)
    low, high = axes.get_xlim()
    if stddev * 200 < high - low:  # thinner than the line that draws it
        axes.axvline(one["mean"], **look)
        return
    x = np.linspace(low, high, 400)
    z = (x - one["mean"]) / stddev
    axes.plot(x, np.exp(-z * z / 2) / (stddev * math.sqrt(2 * math.pi)), **look)


def _stddev(one: dict[str, float]) -> float:
    return math.sqrt(max(one["variance"], 0))


def depth_picture(layers: list[dict[str, Any]]) -> Picture:
    """Draw how far off moving statistics are over the depth of a model.

    Args:
        layers: of a record; some have a distance.
    """
    worst = _worst(layers)
    return Picture(
        svg_text(drawn(draw_depth, layers), "depth"),
        f"How far moving statistics are from the data's. The farthest, of {worst['name']}, are "
        f"{worst['distance']:.3g} standard deviations off.",
        "In standard deviations of the data, root mean square over the channels. The numbers of "
        "the layers are those of the table.",
    )


def draw_depth(layers: list[dict[str, Any]]) -> Figure:
    """Draw distance and noise of each layer on a log scale, the worst one named."""
    figure = Figure((WIDTH, 0.85 * HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    entries = []
    for key, label, look in (
        ("noise", "mean of a single batch", NOISE),
        ("distance", "moving statistics", DISTANCE),
    ):
        points = [(at, one[key]) for at, one in enumerate(layers, 1) if one[key] is not None]
        if points:
            places, values = zip(*points, strict=True)
            axes.plot(places, np.maximum(values, NEAREST), **look)
            entries.append((label, Line2D([], [], **look)))
    axes.set_yscale("log")
    low, high = axes.dataLim.intervaly
    axes.set_ylim(low / 1.5, high * 3)
    set_log_ticks(axes.yaxis, 4.5 * high / low)
    worst = _worst(layers)
    place, is_late = layers.index(worst) + 1, 2 * layers.index(worst) > len(layers)
    axes.annotate(
        shortened(worst["name"]),
        (place, max(worst["distance"], NEAREST)),
        (0, 7),
        textcoords="offset points",
        ha="right" if is_late else "left",
        color=INK,
    )
    axes.grid(True, axis="y", color=GRID)
    axes.tick_params(color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, len(layers) + 0.5)
    axes.set_xlabel("layer, from the input to the output")
    figure.suptitle("Standard deviations away from the data", x=0.02, ha="left")
    add_legend(figure, entries[::-1], 2)
    return figure


def _worst(layers: list[dict[str, Any]]) -> dict[str, Any]:
    return max(layers, key=lambda one: -1 if one["distance"] is None else one["distance"])
