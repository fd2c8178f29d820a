"""What a sweep leaves behind: `trials.csv`, `summary.json`, `best.yaml` and the report."""

import csv
import io
from typing import Any

from bnzoo.config import Config, dump_config
from bnzoo.files import write_atomically
from bnzoo.runs import RunFolder, SweepFolder
from bnzoo.tuning.summary import summarize
from bnzoo.tuning.trials import WORST_SCORE

COLUMNS = ("seed", "score", "status", "epochs", "seconds")


def write_results(
    folder: SweepFolder, config: Config, status: str, name: str, command: str, report: bool = True
) -> dict[str, Any]:
    """Write everything that follows from the runs so far; it can be made again at any time.

    Args:
        folder: the sweep's.
        config: its configuration.
        status: `"completed"` or `"interrupted"`.
        name: what the sweep is called.
        command: the command that runs it again.
        report: whether to write the report, too.

    Returns:
        The content of `summary.json`.
    """
    folder.write_summary(summarize(folder, config, status, name, command))
    summary = folder.summary()
    write_atomically(folder.trials_file, _table(summary))
    folder.best_file.unlink(missing_ok=True)
    if summary["best"]:
        write_atomically(folder.best_file, _best_config(folder, summary))
    if report:
        from bnzoo.reporting.sweep_report import write_sweep_report

        write_sweep_report(folder.path, summary)
    return summary


def _table(summary: dict[str, Any]) -> str:
    """Return one row per run."""
    paths = dict.fromkeys(path for trial in summary["trials"] for path in trial["values"])
    worst = -WORST_SCORE if summary["objective"]["direction"] == "max" else WORST_SCORE
    tested = f"test_{summary['metric']}"
    text, columns = io.StringIO(), ["trial", *paths, *COLUMNS, tested, "folder"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for trial in summary["trials"]:
        for run in trial["runs"]:
            score = worst if run["status"] == "diverged" else run["score"]
            writer.writerow({"trial": trial["trial"], **trial["values"], **run, "score": score})
    return text.getvalue()


def _best_config(folder: SweepFolder, summary: dict[str, Any]) -> str:
    best = summary["best"]
    lines = (
        f"# The best of the sweep {summary['name']}: {best['words']}.",
        f"# Chosen by {summary['chosen_by']}.",
        f"# Its run is {best['folder']}; made again with",
        f"#   bnzoo train {folder.best_file}",
    )
    return "\n".join(lines) + "\n" + dump_config(RunFolder(folder.path / best["folder"]).config())
