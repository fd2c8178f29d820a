"""Where progress is written."""

import os
import sys

from rich.console import Console


class _Console(Console):
    """A console that falls silent when nobody reads it any more (`bnzoo train ... | head`)."""

    def on_broken_pipe(self) -> None:
        """Let the run go on: rich would end the process, and hours of training with it."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def quiet_console() -> Console:
    """Return a console for the standard output: lines as they are, not wrapped."""
    return _Console(highlight=False, soft_wrap=True)
