"""What a diagnosis found: as a table in the terminal, as JSON, as a page."""

import dataclasses
import json
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bnzoo.errors import plural
from bnzoo.reporting.formatting import value_range

TITLES = {
    "not_finite": "Statistics poisoned by NaN",
    "modes": "Training mode and inference mode disagree",
    "not_measured": "Not measured",
    "few_steps": "Too few steps for the momentum",
    "far_statistics": "Moving statistics far from the data's",
    "exploding": "Exploding variance",
    "far_from_zero": "Means too far from zero for the precision",
    "small_batch": "Batch too small for batch normalization",
    "dead_channels": "Dead channels",
    "last_layer": "Batch normalization behind the last layer",
    "frozen": "Frozen",
    "redundant_bias": "Redundant bias",
    "own_call": "A layer of its own kind",
    "not_folded": "Cannot be folded",
}
"""What can be found, the causes of others first."""

WIDTH = 100

RECALIBRATE = "bnzoo.recalibrate(model, data)"
"""The one repair that needs no more than a line."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found in one layer, or in the model.

    Attributes:
        kind: a key of `TITLES`.
        level: `"problem"`, which costs something or will; or `"note"`.
        what: what is so.
        numbers: how bad it is: standard deviations, shares, loss and metrics it costs.
        what_to_do: a sentence.
        command: the line that repairs it, of Python or of a shell; None where none does.
        layer: its name behind those of the models and layers it is inside; None for the model.
    """

    kind: str
    level: Literal["problem", "note"]
    what: str
    what_to_do: str
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    command: str | None = None
    layer: str | None = None

    @property
    def title(self) -> str:
        """What it is called in tables."""
        return TITLES[self.kind]


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What `bnzoo.diagnose` found; printed, it is a table.

    Attributes:
        findings: the worst first: problems before notes, causes before what follows from them.
        record: everything, as JSON has it: also the measured modes, the layers and the picture.
    """

    findings: tuple[Finding, ...]
    record: dict[str, Any]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings of level `problem`."""
        return tuple(one for one in self.findings if one.level == "problem")

    def named(self, source: str, data: str | None, command: str) -> "Diagnosis":
        """Return the same with what the model and its data are called.

        Args:
            source: where the model came from.
            data: what the data are called; None without.
            command: for a shell, instead of `RECALIBRATE`.
        """
        findings = tuple(replace(one, command=one.command and command) for one in self.findings)
        told = [one | {"command": one["command"] and command} for one in self.record["findings"]]
        named = {"source": source, "data": data, "findings": told}
        return Diagnosis(findings, self.record | named)

    def to_json(self) -> str:
        """Return the record as JSON text; what is not finite is null."""
        return json.dumps(self.record, indent=1, allow_nan=False)

    def save_html(self, path: str | Path) -> None:
        """Write a page that opens without a network.

        Args:
            path: of the file; its folder is made if it is missing.
        """
        from bnzoo.reporting.diagnosis import write_diagnosis

        write_diagnosis(Path(path), self.record)

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def problem_lines(findings: tuple[Finding, ...]) -> list[str]:
    """Tell the problems in one line each: layers with the same one are told together."""
    return [
        f"{group[0].title}{place_of(group)}: {group[0].what} {group[0].what_to_do}"
        for group in _grouped(findings)
        if group[0].level == "problem"
    ]


def place_of(group: list[Finding]) -> str:
    """Name the first of the layers that have the same finding, and count the others."""
    if group[0].layer is None:
        return ""
    others = f" and {plural(len(group) - 1, 'other layer')}" if len(group) > 1 else ""
    return f" ({group[0].layer}{others})"


def _grouped(findings: tuple[Finding, ...]) -> list[list[Finding]]:
    groups: dict[tuple[str, str], list[Finding]] = {}
    for one in findings:
        groups.setdefault((one.level, one.kind), []).append(one)
    return list(groups.values())


def _lines(found: Diagnosis) -> list[str]:
    record = found.record
    if not record["layers"]:
        return [f"{record['model']}: {record['verdict']}"]
    layers = plural(len(record["layers"]), "layer")
    data = f"{record['examples']:,} examples" if record["examples"] else "no data"
    of_data = f" of {record['data']}" if record["data"] and record["examples"] else ""
    values = f", {value_range(record['values'])}" if record["values"] else ""
    title = f"{record['model']}: {layers} of batch normalization, {data}{of_data}{values}"
    lines = textwrap.wrap(title, WIDTH, break_long_words=False, break_on_hyphens=False)
    lines += textwrap.wrap(record["verdict"], WIDTH)
    modes = {name: values for name, values in record["modes"].items() if values}
    if modes:
        names = list(next(iter(modes.values())))
        lines += ["", f"  {'':<16}" + "".join(f"{name:>14}" for name in names)]
        lines += [
            f"  {mode:<16}" + "".join(f"{_number(values[name]):>14}" for name in names)
            for mode, values in modes.items()
        ]
    for group in _grouped(found.findings):
        first = group[0]
        lines += ["", f"{first.level}: {first.title}{place_of(group)}"]
        lines += _wrapped(first.what)
        lines += _wrapped(first.what_to_do)
        if first.command:
            lines.append(f"    {first.command}")
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"
