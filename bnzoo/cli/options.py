"""Options that commands share, and how `train`, `compare` and `tune` begin, stop and print."""

import contextlib
import itertools
import shlex
import textwrap
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
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder of what is written. Default: runs/<config name>. Where CONFIG is a folder, "
        "the first free one of runs/<its name>-2, -3 and so on, as nothing is overwritten; with "
        "--resume, CONFIG itself.",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as one JSON object, and all else (errors too) to stderr.",
    ),
]
CustomObjects = Annotated[
    Path | None,
    typer.Option(
        "--custom-objects",
        metavar="FILE.py",
        help="Defines the model's own layers and functions. It is run.",
    ),
]
ModelSource = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE", help="A .keras file, or a run, study or sweep folder (its best run)."
    ),
]
DATA_HELP = (
    "Whose training split is taken, without augmentation: a data set (`bnzoo datasets` "
    "lists them), brought to the size of the model's input, its pixels to [0, 1]; a config, "
    "mine.yaml, whose data are taken as they are; or a function of your own, my_data.py:load, "
    "which is run. Default: the data of the run."
)
NumSamples = Annotated[
    int, typer.Option("--num-samples", min=1, metavar="N", help="Examples to use at most.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        metavar="N",
        help="Best as in training. Default: that of the run or the config, else 32.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key of the config, as a dotted path: --set train.epochs=3. Repeatable.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue what is in --out. Runs that have ended are kept, others go on after their "
        "last complete epoch.",
    ),
]

Workers = Annotated[
    int, typer.Option("--workers", min=1, metavar="N", help="Processes that share the runs.")
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        min=1,
        metavar="SECONDS",
        help="How long a worker waits for the process that opens the folder.",
    ),
]


def begin(
    command: str, config: Path, out: Path | None, overrides: list[str] | None, resume: bool
) -> tuple["Config", Path, str]:
    """Check what a command is given, before TensorFlow is imported.

    Args:
        command: `"train"`, `"compare"` or `"tune"`.
        config: its CONFIG.
        out: its --out.
        overrides: what each --set says.
        resume: whether --resume is given.

    Returns:
        The checked config, the folder to write to, and the line that starts the command again.

    Raises:
        InputError: names every problem of the config, one per line; or its data is not there.
    """
    from bnzoo.data import check_available

    # A study or a sweep that is not run here: what --set does to it is no reason to refuse.
    aside = [f"{section}=null" for section in ("compare", "tune") if section != command]
    checked = read_config(config, [*(overrides or []), *aside])
    check_available(checked.data.name)
    out = out_folder(config, out, resume)
    sets = [word for text in overrides or [] for word in ("--set", text)]
    return checked, out, shlex.join(["bnzoo", command, str(config), "--out", str(out), *sets])


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


def print_wrapped(text: str, indent: int = 2) -> None:
    """Print lines of at most 100 characters.

    Args:
        text: one or several lines.
        indent: spaces before what does not fit on its line.
    """
    for line in text.splitlines():
        for part in textwrap.wrap(
            line,
            100,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        ):
            print(part)
