"""`evaluate`: what a trained model gets right and wrong, class by class."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from bnzoo.cli.app import command
from bnzoo.cli.options import CustomObjects, Json
from bnzoo.errors import plural


@command("evaluate")
def evaluate(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A run, study or sweep folder (its best run), or an export."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME",
            help="Other data: its test split; or folder:photos with a folder for each class. A "
            "function of your own must be named here, as it is run: my_data.py:load.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder of page and figures. Default: evaluation/ in the run, evaluation-DATA/ "
            "with --data; of an export, runs/NAME-evaluation.",
        ),
    ] = None,
    custom_objects: CustomObjects = None,
    as_json: Json = False,
) -> dict[str, Any]:
    """Measure a model on its test data: loss, accuracy, classes, and the surest mistakes."""
    from bnzoo.quiet import start_tensorflow_quietly

    start_tensorflow_quietly()
    from bnzoo.reporting.classification import check_folder, class_rows, write_evaluation
    from bnzoo.saving import custom_objects_of
    from bnzoo.serving.prediction import is_export

    # Another data set's page does not replace that of the test data.
    words = ["evaluation", *([re.sub(r"[^A-Za-z0-9]+", "-", data).strip("-")] if data else [])]
    if out:
        check_folder(out)
    if is_export(source):
        answers, record = _evaluate_export(source, data)
        path = source.resolve()
        name = path.name if not path.name.isdecimal() else f"{path.parent.name}-{path.name}"
        out = out or Path("runs") / "-".join([name, *words])
    else:
        from bnzoo.runs import RunFolder
        from bnzoo.studies.evaluation import evaluate_run

        if out is None:
            RunFolder(source).refuse_links()
        with custom_objects_of(custom_objects):
            answers, record = evaluate_run(source, data)
        out = out or Path(record["source"]) / "-".join(words)
    write_evaluation(out, answers, record)
    found = f": {record['examples']:,} examples" if answers else ""
    print(f"Evaluated {record['source']} on {record['data']}{found}")
    if record["skipped"]:
        print(f"  left out  {plural(record['skipped'], 'unreadable file')}")
    if record["reading"]:
        print(f"  {record['reading']}")
    measured = record.get("metrics") or {key: record[key] for key in ("accuracy", "loss")}
    width = max(map(len, measured))
    for name, value in measured.items():
        print(f"  {name:<{width}}  {value:.4f}")
    if answers:
        _print_classes(class_rows(record))
    print(f"  page      {out / 'evaluation.html'}")
    return {"folder": str(out), **record}


def _print_classes(rows: list[tuple[str, ...]]) -> None:
    rows = [("class", "precision", "recall", "F1", "examples"), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        shown = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        print(f"  {name:<{widths[0]}}  {shown}")


def _evaluate_export(source: Path, data: str | None) -> tuple:
    from bnzoo.serving.prediction import open_export
    from bnzoo.studies.evaluation import evaluate

    logits_of, config, metadata = open_export(source)
    return evaluate(logits_of, config, metadata, str(source), data)
