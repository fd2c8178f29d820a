"""Where data lies: folders that the environment names, and the lock that guards our own."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bnzoo.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: TFDS still renames finished folders into place, unguarded
    fcntl = None


def data_dir() -> Path | None:
    """Return the folder of local data (`BNZOO_DATA_DIR`), which is only ever read, or `None`."""
    folder = os.environ.get("BNZOO_DATA_DIR")
    return Path(folder).expanduser() if folder else None


def cache_dir() -> Path:
    """Return the folder we may write to: `BNZOO_CACHE_DIR`, or `bnzoo` in the user's cache."""
    folder = os.environ.get("BNZOO_CACHE_DIR")
    if folder:
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "bnzoo"


def tfds_dirs() -> list[Path]:
    """Return the folders that may hold prepared TFDS data sets, in order of search."""
    local = data_dir()
    return [folder / "tfds" for folder in (local, cache_dir()) if folder is not None]


def find_download(names: tuple[str, ...]) -> Path | None:
    """Return the first of these archives that was fetched by hand, or `None`.

    Args:
        names: file names, looked for in `BNZOO_DATA_DIR/downloads` and then in our own cache.
    """
    folders = [folder for folder in (data_dir(), cache_dir()) if folder is not None]
    candidates = (folder / "downloads" / name for folder in folders for name in names)
    return next((path for path in candidates if path.is_file()), None)


def make_cache(*parts: str) -> Path:
    """Create and return a folder below the cache.

    Raises:
        InputError: if it cannot be created.
    """
    folder = cache_dir().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The cache folder {folder} cannot be created ({error.strerror}). Data is prepared "
            "there. Set BNZOO_CACHE_DIR to a folder that you may write to."
        ) from error
    return folder


@contextlib.contextmanager
def only_one_process(name: str) -> Iterator[bool]:
    """Hold the lock of this name below the cache; the system releases it if the process dies.

    Yields:
        whether others are really kept out: there is no such lock on Windows.
    """
    if fcntl is None:
        yield False
        return
    path = make_cache("tfds") / f".{name}.lock"
    try:
        lock = path.open("w")
    except OSError as error:
        raise InputError(
            f"The lock file {path} cannot be written ({error.strerror}). Data is prepared beside "
            "it. Set BNZOO_CACHE_DIR to a folder that you may write to."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield True
