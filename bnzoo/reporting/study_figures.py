"""The figures of a study: for the page, with the words beside each, and as PNG files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bnzoo.reporting.curves import draw_curves
from bnzoo.reporting.formatting import percent
from bnzoo.reporting.images import drawn, svg_text, write_png
from bnzoo.reporting.paths import draw_paths
from bnzoo.reporting.series import VariantRuns


@dataclass(frozen=True)
class Picture:
    """A figure on a page: the drawing, what it shows in words, and the text beneath."""

    svg: str
    description: str
    caption: str = ""


def curve_pictures(folder: Path, variants: Sequence[VariantRuns], summary: dict) -> list[Picture]:
    """Draw accuracy and training loss over epochs, and write both as PNG."""
    column, title = _accuracy(variants, summary)
    titles = {column: title, "loss": "Training loss of each epoch"}
    pictures = []
    for name, (key, words) in zip(("accuracy", "loss"), titles.items(), strict=True):
        figure = drawn(draw_curves, variants, key, words)
        save(figure, folder, name)
        pictures.append(
            Picture(svg_text(figure, name), _described(variants, key, words), _band(variants, key))
        )
    return pictures


def path_pictures(folder: Path, variants: Sequence[VariantRuns]) -> list[Picture]:
    """Draw the path of each variant; on the page each is alone, so that a phone can stack them."""
    names = [variant.name for variant in variants if variant.first_path()]
    if not names:
        return []
    save(drawn(draw_paths, variants, names), folder, "weights_path")
    return [
        Picture(
            svg_text(drawn(draw_paths, variants, [name]), f"path{number}"),
            f"Path of the training loss over two weights, variant {name}.",
        )
        for number, name in enumerate(names)
    ]


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure into a folder as PNG."""
    folder.mkdir(exist_ok=True)
    write_png(figure, folder / f"{name}.png")


def _accuracy(variants: Sequence[VariantRuns], summary: dict[str, Any]) -> tuple[str, str]:
    """Choose what was measured after each epoch besides the loss, and say on which examples."""
    column = "val_accuracy"
    if not any(run.line(column).epochs.size for item in variants for run in item.runs):
        return "accuracy", "Training accuracy of each epoch"
    if summary["config"]["data"]["validation"] == "test":
        return column, "Test accuracy after each epoch (published protocol)"
    return column, "Validation accuracy after each epoch"


def _described(variants: Sequence[VariantRuns], column: str, title: str) -> str:
    """Put a figure into words, for who cannot see it."""
    ends = []
    for variant in variants:
        line = variant.mean(column)
        if line.epochs.size:
            value = line.values[-1]
            shown = percent(value) if column.endswith("accuracy") else f"{value:.4g}"
            ends.append(f"{variant.name} ends at {shown} in epoch {line.epochs[-1]}")
    return f"{title}. {'; '.join(ends) or 'No run completed'}."


def _band(variants: Sequence[VariantRuns], column: str) -> str:
    counts = [sum(not run.has_diverged for run in variant.runs) for variant in variants]
    lengths = {
        run.line(column).epochs.size
        for variant in variants
        for run in variant.runs
        if not run.has_diverged
    }
    if not any(counts):
        return "No run completed: each line is a run that diverged."
    if max(counts) < 2:
        return "One run per variant: there is no band, and a line is a single seed."
    band = "Line: mean over the seeds. Band: from the lowest to the highest seed."
    uneven = " Some runs stopped early: each counts as long as it went." if len(lengths) > 1 else ""
    return band + uneven
