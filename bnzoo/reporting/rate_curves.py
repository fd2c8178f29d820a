"""Score over learning rate: a line per placement, a band over its seeds, crosses for divergence."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from bnzoo.reporting.curves import HEIGHT, LEGEND_ROW, WIDTH, add_legend
from bnzoo.reporting.style import INK, Look, looks
from bnzoo.reporting.sweep_grid import Grid

LOG_RATIO = 20
DIVERGED = "diverged"


def draw_rate_curves(grid: Grid, title: str, is_share: bool) -> Figure:
    """Draw the scores of a sweep over the values of the searched key.

    Args:
        grid: the cells.
        title: what stands above the axes.
        is_share: whether scores are shares, to be shown in percent.
    """
    styles = looks(grid.placements)
    figure = Figure((WIDTH, HEIGHT + LEGEND_ROW), layout="constrained")
    axes = figure.add_subplot()
    for placement in grid.placements:
        _draw_placement(axes, grid, placement, styles[placement])
    _set_scales(axes, grid, is_share)
    has_diverged = _draw_diverged(axes, grid, styles)
    axes.set_title(title, loc="left", pad=9, parse_math=False)
    axes.grid(True, axis="y")
    entries = [
        (name, Line2D([], [], color=look.color, ls=look.dashes, marker=look.marker, ms=4, lw=1.6))
        for name, look in styles.items()
    ]
    if has_diverged:
        entries.append((DIVERGED, Line2D([], [], color=INK, marker="x", ms=7, mew=2, lw=0)))
    add_legend(figure, entries, len(entries))
    return figure


def _draw_placement(axes: Axes, grid: Grid, placement: str, look: Look) -> None:
    found = [(row, grid.cells.get((number, placement))) for number, row in enumerate(grid.rows)]
    measured = [(row.place, cell) for row, cell in found if cell and cell.mean is not None]
    if not measured:
        return
    places = [place for place, _ in measured]
    low, high = ([end(cell.scores) for _, cell in measured] for end in (min, max))
    axes.fill_between(places, low, high, color=look.color, alpha=0.18, lw=0)
    axes.plot(
        places,
        [cell.mean for _, cell in measured],
        color=look.color,
        linestyle=look.dashes,
        marker=look.marker,
        markersize=4,
        lw=1.6,
    )


def _draw_diverged(axes: Axes, grid: Grid, styles: dict[str, Look]) -> bool:
    """Mark divergence at the lower edge, side by side where placements share a value."""
    low, high = axes.get_ylim()
    has_any = False
    for number, placement in enumerate(grid.placements):
        places = [
            row.place
            for place, row in enumerate(grid.rows)
            if (cell := grid.cells.get((place, placement))) and cell.diverged
        ]
        height = low + (0.02 + 0.05 * number) * (high - low)
        look = styles[placement]
        axes.plot(places, [height] * len(places), "x", color=look.color, ms=7, mew=2)
        has_any = has_any or bool(places)
    axes.set_ylim(low, high)
    return has_any


def _set_scales(axes: Axes, grid: Grid, is_share: bool) -> None:
    places = [row.place for row in grid.rows]
    if grid.is_number and min(places) > 0 and max(places) / min(places) >= LOG_RATIO:
        axes.set_xscale("log")
        axes.minorticks_off()
    if not grid.is_number:
        axes.set_xticks(places, [row.label for row in grid.rows])
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if is_share:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    axes.margins(x=0.04, y=0.12)
    axes.autoscale_view()
    axes.set_xlabel(grid.path.rpartition(".")[2].replace("_", " "))
