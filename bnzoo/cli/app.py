"""The commands, their exit codes, and quiet libraries."""

import functools
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from bnzoo.cli.signals import on_stop
from bnzoo.errors import InputError

BAD_INPUT, INTERRUPTED = 2, 130

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
    """Register a function as a command whose errors become messages and exit codes."""

    def register(function: Callable) -> Callable:
        @functools.wraps(function)
        def run(*args, **kwargs):
            on_stop(signal.default_int_handler)  # with its work tidied up
            try:
                return function(*args, **kwargs)
            except InputError as error:
                print(f"bnzoo {name}: {error}", file=sys.stderr)
                raise typer.Exit(BAD_INPUT) from None
            except KeyboardInterrupt:
                print(f"bnzoo {name}: interrupted.", file=sys.stderr)
                raise typer.Exit(INTERRUPTED) from None

        return app.command(name)(run)

    return register


def _print_versions(wanted: bool) -> None:
    if wanted:
        from bnzoo.environment import versions

        found = versions()
        print(f"bnzoo {found['bnzoo']}")
        print(f"TensorFlow {found['tensorflow']}")
        print(f"Keras {found['keras']}")
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
    from bnzoo.cli import predicting, serving, explaining  # noqa: F401

    app()
