"""The page of a diagnosis: the answer at one look, then every finding and every layer."""

from pathlib import Path
from typing import Any

from bnzoo.errors import InputError
from bnzoo.files import make_writable_folder, write_atomically
from bnzoo.reporting import formatting
from bnzoo.reporting.diagnosis_figures import data_picture, depth_picture
from bnzoo.reporting.page import render

Record = dict[str, Any]

MODES = {
    "inference": "Inference, by the moving statistics",
    "training": "Training mode, by each batch",
    "recalibrated": "Inference, by the statistics of the data",
}
COLUMNS = {
    "channels": ("Channels", ""),
    "momentum": ("Momentum", ""),
    "distance": ("Off", "moving statistics, in std"),
    "noise": ("Noise", "mean of a batch, in std"),
    "cost": ("Cost", "in loss"),
    "dead": ("Dead", "channels"),
    "frozen": ("Frozen", ""),
    "folds": ("Folding", ""),
}
WRITTEN = "Written by bnzoo."


def check_page(path: Path) -> None:
    """Make sure that a page can be written, before hours are spent on what it is to show.

    Raises:
        InputError: it does not end in .html, its folder cannot be written, or it is another file.
    """
    if path.suffix != ".html":
        raise InputError(f"Expected the name of a page that ends in .html, got {path}. Rename it.")
    make_writable_folder(path.parent)
    if path.is_dir() or (path.exists() and WRITTEN.encode() not in path.read_bytes()):
        raise InputError(
            f"{path}: expected a new file or an earlier page, found something else, which is not "
            "overwritten. Choose another name."
        )


def write_diagnosis(path: str | Path, record: Record) -> None:
    """Write one page that opens without a network.

    Args:
        path: of the page; an earlier one is replaced.
        record: of a diagnosis, as `Diagnosis.to_json` has it.

    Raises:
        InputError: as `check_page`.
    """
    path = Path(path)
    check_page(path)
    findings, layers = record["findings"], record["layers"]
    problems, notes = (
        [one for one in findings if one["level"] == level] for level in ("problem", "note")
    )
    measured = [one for one in layers if one["distance"] is not None]
    groups = {"problem": _groups(problems), "note": _groups(notes)}
    page = render(
        "diagnosis.html.j2",
        record=record,
        facts=_facts(record),
        repair=problems[0]["command"] if problems else None,
        picture=data_picture(record["picture"]) if record["picture"] and problems else None,
        metrics=_metrics(record["modes"]),
        modes=_modes(record["modes"]),
        num_problems=len(problems),
        groups=groups,
        depth=depth_picture(layers) if len(measured) > 1 else None,
        columns=_columns(layers),
        layers=_rows(layers, groups["problem"]),
        written=WRITTEN,
    )
    write_atomically(path, page)


def _facts(record: Record) -> dict[str, str]:
    """Return what was looked at, as heading and text."""
    data = record["data"] or "none given: the weights alone were looked at"
    if record["examples"]:
        batches = f", batches of {record['batch_size']}" if record["batch_size"] else ""
        values = f", {formatting.value_range(record['values'])}" if record["values"] else ""
        data = f"{record['data'] or 'a data set'}: {record['examples']:,} examples{batches}{values}"
    layers = formatting.plural(len(record["layers"]), "layer")
    return {
        "Model": f"{record['model']}, {layers} of batch normalization",
        **({"Source": record["source"]} if record["source"] else {}),
        **({"Data": data} if record["layers"] else {}),
    }


def _metrics(modes: Record) -> list[str]:
    return list(dict.fromkeys(name for values in modes.values() for name in values))


def _modes(modes: Record) -> list[tuple[str, list[tuple[str, float]]]]:
    """Return a row for each mode: its name, and each number as text and as the share of a bar."""
    columns = {name: [values.get(name) for values in modes.values()] for name in _metrics(modes)}
    tops = {
        name: 1.0 if formatting.is_share(name) else max(abs(one or 0) for one in column) or 1.0
        for name, column in columns.items()
    }
    return [
        (
            MODES.get(mode, mode),
            [
                (_metric(name, values.get(name)), abs(values.get(name) or 0) / tops[name])
                for name in columns
            ],
        )
        for mode, values in modes.items()
        if values
    ]


def _metric(name: str, value: float | None) -> str:
    if value is None:
        return "not finite"
    return formatting.percent(value) if formatting.is_share(name) else _text(value)


def _groups(findings: list[Record]) -> list[Record]:
    """Put findings of one kind together: the worst, and a table of the others."""
    kinds: dict[str, list[Record]] = {}
    for one in findings:
        kinds.setdefault(one["kind"], []).append(one)
    return [
        {
            "worst": found[0],
            "layers": [one["layer"] for one in found],
            "headings": [name.replace("_", " ") for name in found[0]["numbers"]],
            "others": [
                (
                    one["layer"] or "the model",
                    [_text(one["numbers"].get(name)) for name in found[0]["numbers"]],
                )
                for one in found[1:]
            ],
        }
        for found in kinds.values()
    ]


def _columns(layers: list[Record]) -> dict[str, tuple[str, str]]:
    """Return the columns of the table of layers that have something in them."""
    return {
        key: heading
        for key, heading in COLUMNS.items()
        if any(one.get(key) is not None and one.get(key) != 0 for one in layers)
    }


def _rows(layers: list[Record], problems: list[Record]) -> list[Record]:
    """Return a row for each layer: its name, the numbers of its problems, and its cells."""
    columns = _columns(layers)
    return [
        {
            "name": one["name"],
            "problems": ", ".join(
                str(number)
                for number, group in enumerate(problems, 1)
                if one["name"] in group["layers"]
            ),
            "cells": [_text(one.get(key)) for key in columns],
        }
        for one in layers
    ]


def _text(value: Any) -> str:
    if value is None:
        return formatting.NOTHING
    if isinstance(value, float):
        return f"{value:.3g}".replace("-", formatting.MINUS)
    return f"{value:,}" if isinstance(value, int) else str(value)
