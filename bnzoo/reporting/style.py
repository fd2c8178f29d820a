"""How figures look: colors that a color-blind reader tells apart, and never color alone."""

from itertools import cycle
from typing import Any, NamedTuple

INK, MUTED, GRID = "#1b1b1b", "#5a5a5a", "#d5d5d5"
PAPER = "#fdfdfc"
# The baseline in gray, then Okabe and Ito's set in the order of its contrast; purple and yellow are
# darkened to stand at least 3 : 1 on white. `page.css` has lighter ones for dark pages.
COLORS = ("#4b4b4b", "#0072b2", "#d55e00", "#009e73", "#aa4499", "#8a6d00")
DASHES = ((0, (4, 1.6)), "-", (0, (7, 1.5, 1.5, 1.5)), (0, (1.6, 1.2)), (0, (9, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Texts stay texts: they scale, can be searched, and are smaller than outlines.
MATPLOTLIB_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bnzoo",  # identifiers that do not change from call to call
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a variant may be called a$b$c
    "figure.titlesize": 9.5,
    "figure.titleweight": "bold",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


class Look(NamedTuple):
    """How one variant is drawn in every figure: color, dashes and marker all differ."""

    color: str
    dashes: Any
    marker: str


def looks(names: list[str]) -> dict[str, Look]:
    """Give each variant its look; the periods 6, 5 and 7 repeat together after 210 variants."""
    kinds = zip(names, cycle(COLORS), cycle(DASHES), cycle(MARKERS), strict=False)
    return {name: Look(*kind) for name, *kind in kinds}


def shortened(text: str, width: int = 28) -> str:
    """Cut a long name in its middle, where names of one family differ least."""
    if len(text) <= width:
        return text
    half = (width - 1) // 2
    return f"{text[: width - 1 - half]}…{text[-half:]}"
