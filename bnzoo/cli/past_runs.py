"""`runs`: past runs, studies and sweeps."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from bnzoo.cli.app import command
from bnzoo.cli.options import Json


@command("runs")
def list_runs(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to look, at any depth.")
    ] = Path("runs"),
    as_json: Json = False,
) -> dict[str, Any]:
    """List past runs, studies and sweeps with data, model, best metric and age."""
    from bnzoo.reporting.formatting import duration
    from bnzoo.runs.listing import list_folders

    rows = [("folder", "kind", "status", "data", "model", "best", "age")]
    found = list_folders(folder)
    for one in found:
        age = duration(time.time() - one["modified"])
        if "problem" in one:
            rows.append((one["folder"], "", "unreadable", "", "", "", age))
            print(f"bnzoo runs: {one['problem']}", file=sys.stderr)
            continue
        model = " ".join(filter(None, (one["model"], one["placement"])))
        best = "" if one["value"] is None else f"{one['value']:.4f} {one['metric']}"
        rows.append((one["folder"], one["kind"], one["status"], one["data"], model, best, age))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return {"folders": found}
