"""`export`: a run or a saved model as a SavedModel for serving."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bnzoo.cli.app import FAILED, command
from bnzoo.cli.options import CustomObjects, Json


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
    custom_objects: CustomObjects = None,
    examples: Annotated[
        Path | None,
        typer.Option(
            "--examples",
            metavar="FILE.npy",
            help="Inputs to compare on. Default: the run's test data, or made up.",
        ),
    ] = None,
    as_json: Json = False,
) -> dict[str, Any]:
    """Write a SavedModel, load it in a new process and compare it with the model.

    Of a study the variant with the highest mean test accuracy is exported (of those that never
    diverged), of a sweep the best trial; and of its seeds the one with the best validation score.
    """
    import os

    # Leaves room on a GPU for the process that checks the export.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    from bnzoo.quiet import start_tensorflow_quietly

    start_tensorflow_quietly()
    from bnzoo.runs import RunFolder
    from bnzoo.serving import export_source
    from bnzoo.serving.parity import ParityError
    from bnzoo.serving.saved_model import read_metadata

    try:
        folder = export_source(
            source, out, version, not no_fold, examples=examples, custom_objects=custom_objects
        )
    except ParityError as error:
        print(f"bnzoo export: {error}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    metadata = read_metadata(folder)
    parity = metadata["parity"]
    difference, allowed = parity["largest_relative_difference"], parity["allowed"]
    print(f"Exported to {folder}")
    if "run" in metadata:
        print(f"  the best run: {metadata['run']}")
        print(f"  {describe_choice(RunFolder(source).summary())}")
    print(
        "  reloaded in a new process: answers differ by at most "
        f"{difference:.1e} of the largest (allowed {allowed:g})"
    )
    print(f"  compared on {parity['inputs']}; signatures: {', '.join(metadata['signatures'])}")
    if metadata["unfolded_because"]:
        print(f"  batch normalization is kept: {metadata['unfolded_because']}")
    if parity["same_answer_to_all"]:
        print("  all of these have the same answer, which compares little: try --examples")
    return {"folder": str(folder), **metadata}


def describe_choice(summary: dict[str, Any]) -> str:
    """Tell which run of a study or a sweep is its best one, and how it was chosen.

    Args:
        summary: of the study or sweep.
    """
    from bnzoo.reporting.formatting import metric, run_name
    from bnzoo.reporting.report import best_run_sentence

    if summary["kind"] == "study":
        groups, sentence = summary["variants"].values(), best_run_sentence(summary)
    else:
        groups, best, objective = summary["trials"], summary["best"], summary["objective"]
        end = "highest" if objective["direction"] == "max" else "lowest"
        sentence = (
            f"{run_name(best['trial'], best['seed'])}: the trial has the {end} mean "
            f"{metric(objective['name'])}, and of its runs seed {best['seed']} the {end}"
        )
    return f"best of {sum(len(group['runs']) for group in groups)} runs: {sentence}"
