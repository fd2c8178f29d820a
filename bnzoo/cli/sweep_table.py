"""How a sweep looks whose trials are run by others: one live table, plain lines elsewhere."""

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bnzoo.cli.app import quiet_console
from bnzoo.tuning.watching import Line, Watcher

MOST_ENDED = 8  # trials that have ended and are still shown; lines above the table tell of all


class SweepTable:
    """The trials under way, live on a terminal; a line for each that ends, everywhere.

    Use it as a context manager, so that the table goes away however the sweep ends.

    Args:
        watcher: reads how far the trials are.
        console: where to draw; by default the standard output.
    """

    def __init__(self, watcher: Watcher, console: Console | None = None):
        self.console = console or quiet_console()
        self._watcher = watcher
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

    def look(self) -> None:
        """Tell what has ended since the last time, and draw the table anew."""
        for text in self._watcher.news():
            self.line(text)
        if self._live.is_started:
            self._live.update(self._table(self._watcher.lines()), refresh=True)

    def _table(self, lines: list[Line]) -> Table:
        ended = [line for line in lines if line.has_ended]
        shown = [line for line in lines if not line.has_ended]
        table = Table(title=f"{len(ended)} of {self._watcher.total} trials", title_justify="left")
        for heading in ("trial", "values", "worker", "progress"):
            table.add_column(heading)
        for line in [*ended[-MOST_ENDED:], *shown]:
            style = "dim" if line.has_ended else ""
            cells = (line.trial.number, line.trial.label, line.worker, line.progress)
            table.add_row(*cells, style=style)
        return table
