"""`NAME/VERSION/`: how versions of a model lie on disk, and how one gets there whole."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from bnzoo.errors import InputError
from bnzoo.files import make_writable_folder
from bnzoo.runs import RunFolder

GRAPH_FILE = "saved_model.pb"
METADATA_FILE = "bnzoo.json"
MODEL_CARD_FILE = "MODEL_CARD.md"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

_HIDDEN = ".export-"


def versions_in(path: Path) -> list[int]:
    """Return the version numbers that are taken in a model folder, rising."""
    return sorted(int(entry.name) for entry in path.glob("*") if entry.name.isdecimal())


def exported_versions(path: Path) -> list[int]:
    """Return the versions in a model folder that are exports, rising."""
    # Not `Path.is_file`: it raises where a folder may not be read.
    return [n for n in versions_in(path) if os.path.isfile(path / str(n) / GRAPH_FILE)]


def exported_models(folder: Path) -> dict[str, list[Path]]:
    """Return the versions of each exported model by name, rising; there may be none.

    A link has the name that it has, whatever it leads to.

    Args:
        folder: a version of a model, a model, or a folder of models.
    """
    folder = folder.absolute() if folder.name not in ("", "..") else folder.resolve()
    if (folder / GRAPH_FILE).is_file():
        return {folder.parent.name: [folder]}
    return {
        model.name: [model / str(number) for number in exported_versions(model)]
        for model in (folder, *sorted(folder.glob("*")))
        if not model.name.startswith(".") and exported_versions(model)
    }


def find_models(folder: Path) -> dict[str, list[Path]]:
    """Return the versions of each model by name, as `exported_models`.

    Raises:
        InputError: there is no model.
    """
    found = exported_models(folder)
    if not found:
        raise InputError(
            f"{folder}: expected an exported model, a folder with 1/{GRAPH_FILE} or the like, "
            f"{_received(folder)}"
        )
    return found


def find_export(path: Path) -> Path:
    """Return the folder of an export: `path` itself, or the newest version of the model below it.

    Raises:
        InputError: there is none, or `path` is a folder of several models.
    """
    models = find_models(path)
    if len(models) > 1:
        raise InputError(
            f"{path}: expected one exported model, got a folder of them: {', '.join(models)}. "
            f"Name one, for example {path / next(iter(models))}."
        )
    (versions,) = models.values()
    return versions[-1]


def _received(path: Path) -> str:
    """Tell what was found where an export was expected, and what to do."""
    if RunFolder(path).config_file.is_file():
        kind = RunFolder(path).found_kind()
        return (
            f"got the folder of a {kind}. "
            f"Export it first: `bnzoo export {path} --out served/{path.resolve().name}`."
        )
    if not path.exists():
        found = "found no such folder"
    elif path.is_file():
        found = "got a file"
    else:
        found = "found none in it" if any(path.iterdir()) else "got an empty folder"
    return f"{found}. Make one with `bnzoo export SOURCE --out DIR`."


def check_target(path: Path, version: int | None) -> None:
    """Refuse a target that cannot work, before anything is computed.

    Raises:
        InputError: `path` is a file or cannot be written, or `version` is taken or no whole
            number of at least 1.
    """
    if version is not None and (type(version) is not int or version < 1):
        raise InputError(
            f"version: expected a whole number of at least 1, got {version!r}. "
            "Leave it out for the next free one."
        )
    if version in versions_in(path):
        raise InputError(
            f"{path / str(version)}: version {version} exists already, and servers may hold it. "
            "Choose another version, or leave it out for the next free one."
        )
    if RunFolder(path).config_file.is_file():
        raise InputError(
            f"{path}: expected the folder of an exported model, or a new one, got that of a "
            f"{RunFolder(path).found_kind()}. Choose another, for example "
            f"--out served/{path.resolve().name}."
        )
    make_writable_folder(path)


def publish(path: Path, version: int | None, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a hidden folder beside the target, then rename it into place.

    A server that watches `path` sees a whole version or none; a crash leaves a hidden folder that
    servers ignore, and that the next export into `path` removes.

    Args:
        path: the model's folder.
        version: version number, or None for the next free one.
        write: fills the folder that it is given.

    Returns:
        The new folder `path/version`.
    """
    with _hidden_folder(path) as hidden:
        write(hidden)
        hidden.chmod(0o755)
        _write_through(hidden)
        return _rename_into_place(hidden, path, version)


@contextlib.contextmanager
def _hidden_folder(path: Path) -> Iterator[Path]:
    """Make a hidden folder and hold it; it is removed unless it has been renamed."""
    for leftover in path.glob(f"{_HIDDEN}*.lock"):
        # The system lets go of the locks of a process that is gone; a held one raises `Timeout`.
        with contextlib.suppress(OSError), _held(leftover.with_suffix(""), timeout=0):
            pass
    hidden = path / f"{_HIDDEN}{uuid.uuid4().hex}"
    with _held(hidden):
        hidden.mkdir()
        yield hidden


@contextlib.contextmanager
def _held(hidden: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a hidden folder by the lock beside it, and remove both at the end."""
    lock = hidden.with_suffix(".lock")
    with FileLock(lock, timeout):
        try:
            yield
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _write_through(folder: Path) -> None:
    """Bring the content to the disk before its name: a power cut leaves no half version."""
    for entry in folder.rglob("*"):
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _rename_into_place(hidden: Path, path: Path, version: int | None) -> Path:
    while True:
        target = path / str(version or max(versions_in(path), default=0) + 1)
        try:
            return hidden.rename(target)
        except OSError:
            # Another export may have taken the free number meanwhile: then try the next.
            if version is not None or not target.exists():
                raise
