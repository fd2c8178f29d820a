"""The folder of a study: the only file that knows what lies where in it."""

from pathlib import Path
from typing import Any

from bnzoo.errors import InputError
from bnzoo.runs.folder import Folder
from bnzoo.runs.run_folder import RunFolder


class StudyFolder(Folder):
    """Reads and writes one study.

    `config.yaml` (resolved, with its `compare` section), `runs/<variant>/seed-<n>/` (ordinary run
    folders), `summary.json`, `report.html`, and `figures/` with the report's figures as PNG.
    """

    kind, command = "study", "compare"

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.runs = self.path / "runs"
        self.report_file = self.path / "report.html"
        self.figures = self.path / "figures"

    def run(self, variant: str, seed: int) -> RunFolder:
        """Return the folder of the run of one variant with one seed."""
        return RunFolder(self.runs / variant / f"seed-{seed}")

    def _holds_something(self) -> bool:
        # Runs that `bnzoo train` made in their places are as good as our own.
        return super()._holds_something() or any(self.runs.glob("*/seed-*/config.yaml"))

    def best_run(self) -> RunFolder:
        """Return the run to use of a completed study, as `best_run` chooses it.

        Raises:
            InputError: the study is not completed, or each of its runs diverged.
        """
        best = best_run(self.completed_summary())
        if best is None:
            raise InputError(
                f"{self.path}: expected a run with usable weights, and every run diverged. "
                "Lower train.optimizer.learning_rate."
            )
        return RunFolder(self.path / best[1]["folder"])


def best_run(summary: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Choose the run to use of a study.

    The variant is the one with the best mean test accuracy among those that never diverged
    (among all that have one, if all diverged once). Of its runs it is the one whose best epoch was
    best by the metric that selects epochs: validation accuracy where there is any. The test set
    has no say in which run it is, unless it is the validation set.

    Args:
        summary: the content of the study's `summary.json`.

    Returns:
        The variant's name and the run's entry in the summary; None where every run diverged.
    """
    found = {name: one for name, one in summary["variants"].items() if one["test_accuracy"]["n"]}
    steady = {name: one for name, one in found.items() if not one["diverged"]} or found
    if not found:
        return None
    name = max(steady, key=lambda name: steady[name]["test_accuracy"]["mean"])
    completed = [run for run in found[name]["runs"] if run["status"] == "completed"]
    return name, max(completed, key=lambda run: run["best"][run["selection_metric"]])
