"""The folders that runs, studies and sweeps leave behind."""

from pathlib import Path

from bnzoo.runs.folder import FolderHeld
from bnzoo.runs.run_folder import HISTORY_COLUMNS, RunFolder
from bnzoo.runs.study_folder import PlannedRun, StudyFolder, best_run
from bnzoo.runs.sweep_folder import SweepFolder

__all__ = [
    "HISTORY_COLUMNS",
    "FolderHeld",
    "PlannedRun",
    "RunFolder",
    "StudyFolder",
    "SweepFolder",
    "best_run",
    "usable_run",
]


def usable_run(path: str | Path) -> Path:
    """Return the folder of the best run of a study or a sweep; any other path as it is.

    Raises:
        InputError: as `StudyFolder.best_run` and `SweepFolder.best_run`.
    """
    for folder in (StudyFolder(path), SweepFolder(path)):
        if folder.config_file.is_file() and folder.found_kind() == folder.kind:
            return folder.best_run().path
    return Path(path)
