"""What a sweep leaves behind: `trials.csv`, `summary.json`, `best.yaml` and the report."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnzoo.config import Config, dump_config
from bnzoo.files import write_atomically
from bnzoo.runs import RunFolder, SweepFolder
from bnzoo.tuning.score import WORST_SCORE
from bnzoo.tuning.summary import summarize

COLUMNS = ("seed", "score", "status", "epochs", "seconds", "test_accuracy", "folder")


def _write_report(path: Path, summary: dict[str, Any]) -> None:
    from bnzoo.reporting.sweep_report import write_sweep_report

    write_sweep_report(path, summary)


def write_results(
    folder: SweepFolder,
    config: Config,
    status: str,
    name: str,
    command: str,
    write_report: Callable[[Path, dict[str, Any]], None] = _write_report,
) -> dict[str, Any]:
    """Write everything that follows from the runs so far; it can be made again at any time.

    Args:
        folder: the sweep's.
        config: its configuration.
        status: `"completed"` or `"interrupted"`.
        name: what the sweep is called.
        command: the command that runs it again.
        write_report: writes the report into the folder that it is given, from the summary.

    Returns:
        The content of `summary.json`.
    """
    folder.write_summary(summarize(folder, config, status, name, command))
    summary = folder.summary()
    write_atomically(folder.trials_file, _table(summary))
    folder.best_file.unlink(missing_ok=True)
    if summary["best"]:
        write_atomically(folder.best_file, _best_config(folder, summary))
    write_report(folder.path, summary)
    return summary


def _table(summary: dict[str, Any]) -> str:
    """Return one row per execution."""
    paths = list(dict.fromkeys(path for trial in summary["trials"] for path in trial["values"]))
    worst = -WORST_SCORE if summary["objective"]["direction"] == "max" else WORST_SCORE
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", *paths, *COLUMNS])
    for trial in summary["trials"]:
        values = [trial["values"].get(path, "") for path in paths]
        for run in trial["runs"]:
            score = worst if run["status"] == "diverged" else run["score"]
            cells = {**run, "score": score}
            found = ["" if cells[column] is None else cells[column] for column in COLUMNS]
            writer.writerow([trial["trial"], *values, *found])
    return text.getvalue()


def _best_config(folder: SweepFolder, summary: dict[str, Any]) -> str:
    best = summary["best"]
    lines = (
        f"# The best of the sweep {summary['name']}: {best['words']}.",
        f"# Its run is {best['folder']}; made again with",
        f"#   bnzoo train {folder.best_file}",
    )
    return "\n".join(lines) + "\n" + dump_config(RunFolder(folder.path / best["folder"]).config())
