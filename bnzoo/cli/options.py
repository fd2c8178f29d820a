"""What several commands share: CONFIG, --set and --out, and the words that run a command again."""

import contextlib
import itertools
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnzoo.errors import InputError

if TYPE_CHECKING:
    from bnzoo.config import Config

CONFIG_HELP = (
    "A YAML file; or the folder of a run, study or sweep, whose config.yaml is used; or, where "
    "there is no such file, the name of a starter config (bnzoo configs lists them)."
)
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help=CONFIG_HELP)]
OUT_HELP = (
    "Default: runs/<config name>. Where CONFIG is a folder, the first free one of "
    "runs/<its name>-2, -3 and so on, as nothing is overwritten; with --resume, CONFIG itself."
)
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key of the config, as a dotted path: --set train.epochs=3. Repeatable.",
    ),
]


def read_config(path: Path, overrides: list[str] | None) -> "Config":
    """Load a config, and check all that can be known of its data without TensorFlow.

    Raises:
        InputError: names every problem, one per line.
    """
    from bnzoo.config import load_config
    from bnzoo.data import describe_images

    config = load_config(path, overrides or [])
    try:
        known = describe_images(config.data.name)
        if known:
            config.check_data(*known)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return config


def config_name(config: Path) -> str:
    """Return the name of a config: that of its file without ending, or of its folder."""
    return config.resolve().name if config.is_dir() else config.stem


def out_folder(config: Path, out: Path | None, resume: bool) -> Path:
    """Return the folder that a command writes to: --out, or what its help says."""
    if out or (resume and config.is_dir()):
        return out or config
    usual = Path("runs") / config_name(config)
    if not config.is_dir():
        return usual
    others = (usual.with_name(f"{usual.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in others if not folder.exists())


def command_line(command: str, config: Path, out: Path, overrides: list[str] | None) -> str:
    """Return the line that starts a command again, quoted for a shell."""
    sets = [word for text in overrides or [] for word in ("--set", text)]
    return shlex.join(["bnzoo", command, str(config), "--out", str(out), *sets])


@contextlib.contextmanager
def resumable(config_file: Path, command: str, announce: Callable[[str], None]) -> Iterator[None]:
    """Say how to go on with a run, study or sweep, whatever stops it in the middle.

    Args:
        config_file: of its folder; without it nothing has begun.
        command: the line that started it.
        announce: called with the line that says so.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException:
        if config_file.exists():
            announce(f"Stopped. Continue with: {command} --resume")
        raise
