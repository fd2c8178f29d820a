"""What the pages of studies and sweeps have in common: figures, the template, the metadata."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from bnzoo.reporting import formatting
from bnzoo.reporting.series import VariantRuns
from bnzoo.reporting.style import COLORS, GRID, INK, MATPLOTLIB_SETTINGS, MUTED, PAPER

PNG_DOTS_PER_INCH = 160
# Each color of a figure is a variable of the page, which has other values in the dark.
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    color: f"--series-{number}" for number, color in enumerate(COLORS)
}


class Picture(NamedTuple):
    """A figure on a page: the drawing, what it shows in words, and the text beneath."""

    svg: str
    description: str
    caption: str = ""


def drawn(draw: Callable[..., Figure], *arguments) -> Figure:
    """Draw a figure in the house style, whatever the user's own matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(MATPLOTLIB_SETTINGS)
        figure = draw(*arguments)
        figure.draw_without_rendering()
        return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG on white, with nothing in it that differs from call to call."""
    folder.mkdir(exist_ok=True)
    figure.savefig(
        folder / f"{name}.png",
        dpi=PNG_DOTS_PER_INCH,
        facecolor="white",
        metadata={"Software": None},
    )


def picture(
    figure: Figure, folder: Path, name: str, description: str, caption: str = ""
) -> Picture:
    """Return a figure for a page, and write it as PNG too."""
    save(figure, folder, name)
    return Picture(svg_text(figure, name), description, caption)


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
    text = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    # The size comes from the page, the proportions from viewBox; the figure around it is described.
    text = re.sub(r' (width|height)="[^"]*"', "", text, count=2)
    text = text.replace("<svg", '<svg aria-hidden="true"', 1)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return text


def render(template: str, **values: Any) -> str:
    """Return a page from a template of this room."""
    environment = Environment(
        loader=PackageLoader("bnzoo.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def metadata(summary: dict[str, Any], variants: Sequence[VariantRuns]) -> dict[str, str]:
    """Return what decides about the numbers besides the config, as heading and text.

    Args:
        summary: of a study or a sweep.
        variants: all of its runs.
    """
    rows = [row for item in variants for run in item.runs for row in run.rows]
    seconds = sum(row["seconds"] or 0 for row in rows)
    machine, versions = summary["machine"] or {}, summary["versions"] or {}
    return {
        "Data and model": f"{summary['config']['data']['name']}, "
        f"{summary['config']['model']['name']}",
        "Seeds": formatting.listed(summary["seeds"]),
        "Protocol": summary["protocol"],
        "Training time": f"{formatting.duration(seconds)} for "
        f"{formatting.plural(len(rows), 'epoch')}",
        "Machine": ", ".join(f"{key}: {value}" for key, value in machine.items()),
        "Device": formatting.listed(summary["device"] or []),
        "Versions": ", ".join(f"{key} {value}" for key, value in versions.items()),
    }
