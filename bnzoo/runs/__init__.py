"""The folders that runs and studies leave behind."""

from bnzoo.runs.run_folder import HISTORY_COLUMNS, RunFolder
from bnzoo.runs.study_folder import StudyFolder, usable_run

__all__ = ["HISTORY_COLUMNS", "RunFolder", "StudyFolder", "usable_run"]
