"""How a sweep looks whose trials are run by others: one live table, plain lines elsewhere."""

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bnzoo.cli.app import quiet_console
from bnzoo.config import Config, expected_trials
from bnzoo.runs import SweepFolder
from bnzoo.tuning.trials import COMPLETED, TrialState, read_trials

MOST_ENDED = 8  # trials that have ended and are still shown; lines above the table tell of all


class SweepTable:
    """The trials under way, live on a terminal; a line for each that ends, everywhere.

    Use it as a context manager, so that the table goes away however the sweep ends.

    Args:
        folder: the sweep's, from which it is read how far the trials are.
        config: the sweep's.
        console: where to draw; by default the standard output.
    """

    def __init__(self, folder: SweepFolder, config: Config, console: Console | None = None):
        self.console = console or quiet_console()
        self._folder, self._config, self._total = folder, config, expected_trials(config)
        self._printed: set[int] = set()
        self._live = Live(console=self.console, transient=True, auto_refresh=False)

    def __enter__(self):
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error):
        if self._live.is_started:
            self._live.stop()

    def line(self, text: str) -> None:
        """Print a line above the table."""
        self.console.print(text, markup=False)

    def poll(self) -> None:
        """Print a line for each trial that has ended since the last time, and draw the table."""
        states = read_trials(self._folder, self._config)
        ended = [state for state in states if state.status == COMPLETED]
        for state in ended:
            trial = state.trial
            if trial.number not in self._printed:
                self._printed.add(trial.number)
                progress = state.progress(self._folder, self._config)
                self.line(f"trial {trial.number + 1}/{self._total}  {trial.name}  {progress}")
        if self._live.is_started:
            running = [state for state in states if state.status != COMPLETED]
            self._live.update(self._table(ended, running), refresh=True)

    def _table(self, ended: list[TrialState], running: list[TrialState]) -> Table:
        table = Table(title=f"{len(ended)} of {self._total} trials", title_justify="left")
        for heading in ("trial", "worker", "progress"):
            table.add_column(heading)
        for state in [*ended[-MOST_ENDED:], *running]:
            progress = state.progress(self._folder, self._config)
            style = "dim" if state.status == COMPLETED else ""
            table.add_row(state.trial.name, state.worker or "", progress, style=style)
        return table
