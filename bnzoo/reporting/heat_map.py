"""Score by learning rate and placement: a coloured cell for each, its number in it."""

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bnzoo.reporting.style import GRID, INK, MUTED
from bnzoo.reporting.sweep_grid import Cell, Grid

WIDTH, ROW_HEIGHT, ROOM = 4.5, 0.34, 0.75  # inches; as wide as the curves, so as legible
COLORS = colormaps["cividis"]  # rises in lightness for every eye, and in print
# Not those of the page, which turn over in the dark: the cells stay as they are.
DARK_TEXT, LIGHT_TEXT = "#111111", "#fefefe"
DIVERGED = "diverged"


def draw_heat_map(grid: Grid, title: str, is_share: bool, best_is_high: bool) -> Figure:
    """Draw the cells of a sweep; larger values of the searched key are higher up.

    Args:
        grid: the cells.
        title: what stands above the axes.
        is_share: whether scores are shares, to be shown in percent.
        best_is_high: whether high scores are good, and light.
    """
    figure = Figure((WIDTH, ROOM + ROW_HEIGHT * len(grid.rows)), layout="constrained")
    axes = figure.add_subplot()
    means = [cell.mean for cell in grid.cells.values() if cell.mean is not None]
    low, high = (min(means), max(means)) if means else (0.0, 1.0)
    for (row, placement), cell in grid.cells.items():
        share = 0.5 if high == low else ((cell.mean or 0.0) - low) / (high - low)
        _draw_cell(
            axes,
            (grid.placements.index(placement), row),
            cell,
            share if best_is_high else 1 - share,
            _percent if is_share else _number,
        )
    _set_axes(axes, grid)
    axes.set_title(title, loc="left", pad=9, parse_math=False)
    return figure


def _draw_cell(axes, place: tuple[int, int], cell: Cell, share: float, write) -> None:
    left, bottom = place[0] - 0.5, place[1] - 0.5
    if cell.diverged:
        total = cell.diverged + len(cell.scores)
        text = DIVERGED if cell.diverged == total else f"{cell.diverged} of {total} {DIVERGED}"
        look = {"facecolor": "none", "edgecolor": GRID, "hatch": "////", "lw": 0}
        axes.add_patch(Rectangle((left, bottom), 1, 1, **look))
        box = {"facecolor": "#fdfdfc", "edgecolor": "none", "pad": 1.5}  # the page's paper
        axes.text(*place, text, ha="center", va="center", color=INK, fontsize=8, bbox=box)
        return
    color = COLORS(share)
    red, green, blue, _ = color
    is_light = 0.3 * red + 0.59 * green + 0.11 * blue > 0.5
    axes.add_patch(Rectangle((left, bottom), 1, 1, facecolor=color, edgecolor="none"))
    text_color = DARK_TEXT if is_light else LIGHT_TEXT
    axes.text(*place, write(cell.mean), ha="center", va="center", color=text_color)


def _set_axes(axes, grid: Grid) -> None:
    axes.set_xlim(-0.5, len(grid.placements) - 0.5)
    axes.set_ylim(-0.5, len(grid.rows) - 0.5)
    axes.set_xticks(range(len(grid.placements)), grid.placements)
    axes.set_yticks(range(len(grid.rows)), [row.label for row in grid.rows])
    axes.set_xlabel("batch normalization, in relation to the activation")
    axes.set_ylabel(grid.path.rpartition(".")[2].replace("_", " "))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for number in range(len(grid.placements) + 1):
        axes.axvline(number - 0.5, color=MUTED, lw=0.5)
    for number in range(len(grid.rows) + 1):
        axes.axhline(number - 0.5, color=MUTED, lw=0.5)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _number(value: float) -> str:
    return f"{value:.3g}"
