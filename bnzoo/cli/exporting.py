"""`export`: a run or a saved model as a SavedModel for serving."""

from pathlib import Path
from typing import Annotated

import typer

from bnzoo.cli.app import command


@command("export")
def export(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A run, study or sweep folder, or a .keras file."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The model's folder; gets DIR/N/.")
    ],
    version: Annotated[
        int | None,
        typer.Option("--version", metavar="N", help="Version number. Default: the next free one."),
    ] = None,
    no_fold: Annotated[
        bool,
        typer.Option("--no-fold", help="Keep batch normalization as layers of its own."),
    ] = False,
) -> None:
    """Write a SavedModel, load it in a new process and compare it with the model."""
    import os

    # Leaves room on a GPU for the process that checks the export.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    from bnzoo.quiet import start_tensorflow_quietly

    start_tensorflow_quietly()
    from bnzoo.serving import export_source
    from bnzoo.serving.prediction import read_facts

    folder = export_source(source, out, version, fold=not no_fold)
    facts = read_facts(folder)
    parity = facts["parity"]
    difference, allowed = parity["largest_relative_difference"], parity["allowed"]
    print(f"Exported to {folder}")
    if "run" in facts:
        print(f"  the best run: {facts['run']}")
    print(
        "  reloaded in a new process: answers differ by at most "
        f"{difference:.1e} of the largest (allowed {allowed:g})"
    )
    print(f"  compared on {parity['inputs']}; signatures: {', '.join(facts['signatures'])}")
