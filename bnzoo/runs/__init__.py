"""The folders that runs, studies and sweeps leave behind."""

from bnzoo.runs.run_folder import HISTORY_COLUMNS, RunFolder
from bnzoo.runs.study_folder import StudyFolder, best_run
from bnzoo.runs.sweep_folder import SweepFolder
from bnzoo.runs.usable import usable_run

__all__ = ["HISTORY_COLUMNS", "RunFolder", "StudyFolder", "SweepFolder", "best_run", "usable_run"]
