"""`NAME/VERSION/`: how versions of a model lie on disk, and how one gets there whole."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bnzoo.errors import InputError
from bnzoo.files import make_writable_folder

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

GRAPH_FILE = "saved_model.pb"
METADATA_FILE = "bnzoo.json"
MODEL_CARD_FILE = "MODEL_CARD.md"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

_HIDDEN = ".export-"


def versions_in(path: Path) -> list[int]:
    """Return the version numbers that are taken in a model folder, rising."""
    if not path.is_dir():
        return []
    names = (entry.name for entry in path.iterdir())
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def find_export(path: Path) -> Path:
    """Return the folder of an export: `path` itself, or the newest version below it.

    Raises:
        InputError: there is none.
    """
    if (path / GRAPH_FILE).is_file():
        return path
    found = exported_versions(path)
    if not found:
        raise InputError(
            f"{path}: expected an exported model, a folder with 1/{GRAPH_FILE} or the like, found "
            f"{'no such folder' if not path.exists() else 'none'}. "
            "Make one with `bnzoo export SOURCE --out DIR`."
        )
    return path / str(found[-1])


def exported_versions(path: Path) -> list[int]:
    """Return the versions in a model folder that are exports, rising."""
    return [number for number in versions_in(path) if (path / str(number) / GRAPH_FILE).is_file()]


def check_target(path: Path, version: int | None) -> None:
    """Refuse a target that cannot work, before anything is computed.

    Raises:
        InputError: `path` is a file or cannot be written, or `version` is taken or no whole
            number of at least 1.
    """
    is_number = isinstance(version, int) and not isinstance(version, bool)
    if version is not None and not (is_number and version >= 1):
        raise InputError(
            f"version: expected a whole number of at least 1, got {version!r}. "
            "Leave it out for the next free one."
        )
    if version in versions_in(path):
        raise InputError(
            f"{path / str(version)}: version {version} exists already, and servers may hold it. "
            "Choose another version, or leave it out for the next free one."
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
    with _locked(path):  # so that nobody takes ours for a leftover before we hold it
        _remove_leftovers(path)
        hidden = Path(tempfile.mkdtemp(prefix=_HIDDEN, dir=path))
        held = contextlib.ExitStack()
        held.enter_context(_locked(hidden))
    with held:
        try:
            yield hidden
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Remove hidden folders whose process is gone: the system lets go of its locks."""
    if fcntl is None:
        return
    for leftover in path.glob(f"{_HIDDEN}*"):
        with contextlib.suppress(OSError), _locked(leftover, wait=False):
            shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold a folder against other processes; without `wait` `BlockingIOError` says it is held."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _write_through(folder: Path) -> None:
    """Bring the content to the disk before its name: a power cut leaves no half version."""
    for entry in folder.rglob("*"):
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _rename_into_place(hidden: Path, path: Path, version: int | None) -> Path:
    number = version or max(versions_in(path), default=0) + 1
    while True:
        target = path / str(number)
        try:
            os.rename(hidden, target)
            return target
        except OSError:
            # Another export may have taken the free number meanwhile: then try the next.
            if version is not None or not target.exists():
                raise
            number += 1
