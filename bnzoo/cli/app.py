"""What all commands share: exit codes, errors as messages, signals, the console."""

import contextlib
import errno
import functools
import io
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bnzoo.errors import InputError
from bnzoo.workers import WorkerError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="bnzoo",
    help="Batch normalization for Keras: train, compare, tune and export networks "
    "with and without it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(name: str) -> Callable[[Callable], Callable]:
    """Register a function as a command whose errors become messages and exit codes.

    A function with the option `as_json` (`options.Json`) returns its result, JSON-able. A result
    with the status `diverged` exits with 1.
    """

    def register(function: Callable) -> Callable:
        @functools.wraps(function)
        def run(*args, **kwargs):
            on_stop(signal.default_int_handler)  # with its work tidied up
            as_json = kwargs.get("as_json")
            try:
                with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
                    result = function(*args, **kwargs)
            except InputError as error:
                print(f"bnzoo {name}: {error}", file=sys.stderr)
                raise typer.Exit(BAD_INPUT) from None
            except KeyboardInterrupt:
                on_stop(signal.SIG_IGN)  # a second one would break off this line, and the exit
                print(f"bnzoo {name}: interrupted.", file=sys.stderr)
                raise typer.Exit(INTERRUPTED) from None
            except WorkerError as error:  # among what is said of the workers
                print(f"bnzoo {name}: {error}", file=sys.stderr if as_json else sys.stdout)
                raise typer.Exit(FAILED) from None
            except Exception as error:
                said = _disk_full(error, **kwargs) or _refused(error)
                if said is None:
                    raise
                print(f"bnzoo {name}: {said}", file=sys.stderr)
                raise typer.Exit(FAILED) from None
            if as_json:
                print(json.dumps(result, allow_nan=False))
            if result and result.get("status") == "diverged":
                raise typer.Exit(FAILED)

        return app.command(name)(run)

    return register


def _disk_full(error: BaseException | None, out: Path | None = None, **others) -> str | None:
    """Say which disk is full, if that is the error or one of its causes."""
    said = []
    while error is not None:
        said.append(str(error))
        error = error.__cause__ or error.__context__
    # TensorFlow and HDF5 give no error number, but the system's words.
    words = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    found = [word for word in words if word in "\n".join(said)]
    if not found:
        return None
    out = (out or Path("runs")).absolute()
    folder = next(place for place in (out, *out.parents) if place.exists())
    free, full = min(
        (shutil.disk_usage(place).free, str(place)) for place in (folder, tempfile.gettempdir())
    )
    return (
        f"{full}: {found[0]} ({free / 2**20:,.1f} MB are free). What was complete is kept. Make "
        "room, then go on."
    )


def _refused(error: Exception) -> str | None:
    """Say which file the system refuses to open, read or write, if that is the error."""
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return None
    return f"{error.filename}: {error.strerror}. Check this file and its folder."


def on_stop(handler: Callable) -> None:
    """Call a handler for Ctrl-C, a scheduler's SIGTERM, and a terminal that is closed.

    Ctrl-C also in what a script started with `&`, where shells have it ignored; a closed terminal
    not where it is ignored, as `nohup` has it. Windows does not know that one.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up and signal.getsignal(hang_up) != signal.SIG_IGN:
        signal.signal(hang_up, handler)


class _Console(Console):
    """A console that falls silent when nobody reads it any more (`bnzoo train ... | head`)."""

    def on_broken_pipe(self) -> None:
        """Let the run go on: rich would end the process, and hours of training with it."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def quiet_console() -> Console:
    """Return a console for the standard output: lines as they are, not wrapped."""
    return _Console(highlight=False, soft_wrap=True)


def quiet_bar() -> Progress:
    """Return a bar for steps, epochs or runs (`unit`); nothing is drawn but on a terminal."""
    console = quiet_console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}, left:"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _print_versions(wanted: bool) -> None:
    if wanted:
        from bnzoo.environment import versions

        found = versions()
        for name in ("bnzoo", "TensorFlow", "Keras"):
            print(name, found[name.lower()])
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_versions,
            is_eager=True,
            help="Print the versions of bnzoo, TensorFlow and Keras.",
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    # Importing registers them, in the order in which `--help` lists them.
    from bnzoo.cli import listing, training, comparing, tuning, exporting  # noqa: F401, I001
    from bnzoo.cli import diagnosing, replacing  # noqa: F401
    from bnzoo.cli import evaluating, past_runs, predicting, serving, explaining  # noqa: F401

    for stream in (sys.stdout, sys.stderr):  # a name may hold what they cannot encode
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
