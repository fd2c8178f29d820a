"""Which run is meant by a folder that holds many."""

from pathlib import Path

from bnzoo.runs.study_folder import StudyFolder
from bnzoo.runs.sweep_folder import SweepFolder


def usable_run(path: str | Path) -> Path:
    """Return the folder of the best run of a study or a sweep; any other path as it is.

    Raises:
        InputError: as `StudyFolder.best_run` and `SweepFolder.best_run`.
    """
    for folder in (StudyFolder(path), SweepFolder(path)):
        if folder.config_file.is_file() and folder.found_kind() == folder.kind:
            return folder.best_run().path
    return Path(path)
