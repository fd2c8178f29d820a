"""The folder of a study or a sweep, as far as they are alike: runs, and a report on them."""

from pathlib import Path
from typing import Any

from bnzoo.errors import InputError
from bnzoo.runs.folder import Folder
from bnzoo.runs.run_folder import RunFolder


class FolderOfRuns(Folder):
    """What studies and sweeps have in common: runs, and a report on them.

    `runs/<name>/seed-<n>/` (ordinary run folders), `report.html`, `figures/` with the report's
    figures as PNG, `tensorboard/` with the keys that vary, and `logs/` with what workers printed.
    """

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.runs = self.path / "runs"
        self.report_file = self.path / "report.html"
        self.figures = self.path / "figures"
        self.logs = self.path / "logs"
        self.tensorboard = self.path / "tensorboard"

    def _holds_something(self) -> bool:
        # Runs made by `bnzoo train` in these folders are taken over.
        return super()._holds_something() or any(self.runs.glob("*/seed-*/config.yaml"))

    def run(self, name: str, seed: int) -> RunFolder:
        """Return the folder of the run of one variant, or of one trial's values, with one seed."""
        return RunFolder(self.runs / name / f"seed-{seed}")

    def best_run(self) -> RunFolder:
        """Return the run to use of what is completed.

        Raises:
            InputError: it is not completed, or each of its runs diverged.
        """
        best = self._best(self.completed_summary())
        if best is None:
            raise InputError(
                f"{self.path}: expected a run with usable weights, and every run diverged. "
                "Lower train.optimizer.learning_rate, or the rates that are searched."
            )
        return RunFolder(self.path / best["folder"])

    def _best(self, summary: dict[str, Any]) -> dict[str, Any] | None:
        raise NotImplementedError
