"""How a study looks whose runs are trained by workers: lines, and bars on a terminal."""

from collections.abc import Sequence

from bnzoo.cli.app import quiet_bar
from bnzoo.reporting.formatting import run_name
from bnzoo.runs import PlannedRun, RunFolder
from bnzoo.runs.metrics import main_metric


class StudyProgress:
    """A line when a run begins and when it ends; on a terminal a bar for each that is under way.

    Use it as a context manager, so that the bars go away however the study ends.

    Args:
        runs: of the study, from whose folders it is read how far they are.
    """

    def __init__(self, runs: Sequence[PlannedRun]):
        self._runs, self._bar, self._tasks = runs, quiet_bar(), {}
        self._ended = {run.folder.path for run in runs if run.folder.has_ended()}

    def __enter__(self):
        self._bar.start()
        if self._ended:
            self.line(f"{len(self._ended)} of {len(self._runs)} runs have ended already.")
        done, total = len(self._ended), len(self._runs)
        self._overall = self._bar.add_task("all", total=total, completed=done, unit="runs")
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a line above the bars."""
        self._bar.console.print(text, markup=False)

    def poll(self) -> None:
        """Tell what has happened since the last time."""
        for position, run in enumerate(self._runs, start=1):
            if run.folder.path not in self._ended:
                self._look(
                    run, f"run {position}/{len(self._runs)} {run_name(run.variant, run.seed)}"
                )

    def _look(self, run: PlannedRun, text: str) -> None:
        if run.folder.has_ended():
            self._ended.add(run.folder.path)
            self.line(f"{text}  {_reached(run.folder)}")
            self._bar.update(self._overall, completed=len(self._ended))
            if text in self._tasks:
                self._bar.remove_task(self._tasks.pop(text))
        elif text in self._tasks:
            self._bar.update(self._tasks[text], completed=len(run.folder.history()))
        elif run.folder.is_held():
            self.line(text)
            done, total = len(run.folder.history()), run.config.train.epochs
            self._tasks[text] = self._bar.add_task(text, total=total, completed=done, unit="epochs")


def _reached(folder: RunFolder) -> str:
    test = folder.summary()["test"]
    return f"test {main_metric(test)} {test[main_metric(test)]:.4f}" if test else "diverged"
