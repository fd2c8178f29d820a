"""What several commands share: the option --set, and the words that run a command again."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key of the config, as a dotted path: --set train.epochs=3. Repeatable.",
    ),
]


def command_line(command: str, config: Path, out: Path, overrides: list[str] | None) -> str:
    """Return the line that starts a command again, quoted for a shell."""
    sets = [word for text in overrides or [] for word in ("--set", text)]
    return shlex.join(["bnzoo", command, str(config), "--out", str(out), *sets])
