"""Figures as files: SVG that takes its colours from the page, and PNG."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from bnzoo.reporting.style import COLORS, GRID, INK, MATPLOTLIB_SETTINGS, MUTED, PAPER

PNG_DOTS_PER_INCH = 160
# Each colour of a figure is a variable of the page, which has other values in the dark.
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    color: f"--series-{number}" for number, color in enumerate(COLORS)
}


def drawn(draw: Callable[..., Figure], *arguments) -> Figure:
    """Draw a figure in the house style, whatever the user's own matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(MATPLOTLIB_SETTINGS)
        figure = draw(*arguments)
        figure.draw_without_rendering()
        return figure


def write_png(figure: Figure, path: Path) -> None:
    """Write a PNG on white, with nothing in it that differs from call to call."""
    figure.savefig(
        path, dpi=PNG_DOTS_PER_INCH, facecolor="white", metadata={"Software": None}, format="png"
    )


def svg_text(figure: Figure, name: str) -> str:
    """Return a figure as an `<svg>` element to put into a page.

    Args:
        figure: the figure.
        name: a word that is unique on the page; the identifiers inside begin with it.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(MATPLOTLIB_SETTINGS):
        figure.savefig(
            buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    # The size comes from the page, the proportions from viewBox; a role makes it one image.
    text = re.sub(r'^<svg ([^>]*?)width="[^"]*"', r'<svg aria-hidden="true" \1', text, count=1)
    text = re.sub(r'^(<svg [^>]*?)height="[^"]*"', r"\1", text, count=1)
    return re.sub(r"#[0-9a-f]{6}\b", _variable, text)


def _variable(match: re.Match) -> str:
    name = VARIABLES.get(match[0])
    return f"var({name})" if name else match[0]
