"""`NAME/VERSION/`: how versions of a model lie on disk, and how one gets there whole."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from bnzoo.errors import InputError


def versions_in(path: Path) -> list[int]:
    """Return the version numbers that a model folder holds, rising."""
    if not path.is_dir():
        return []
    return sorted(int(entry.name) for entry in path.iterdir() if _is_version(entry))


def _is_version(entry: Path) -> bool:
    return entry.name.isascii() and entry.name.isdigit() and entry.is_dir()


def check_target(path: Path, version: int | None) -> None:
    """Refuse a target that cannot work, before anything is computed.

    Raises:
        InputError: `path` is a file or cannot be written, or `version` is taken or no whole
            number of at least 1.
    """
    if version is not None and (
        isinstance(version, bool) or int(version) != version or version < 1
    ):
        raise InputError(
            f"version: expected a whole number of at least 1, got {version!r}. "
            "Leave it out for the next free one."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"{path}: expected a folder, got a file (itself or on the way). Choose another --out."
        ) from None
    except OSError as error:
        raise InputError(
            f"{path}: expected a folder that can be written, got: {error.strerror}. "
            "Choose another --out."
        ) from None
    if version in versions_in(path):
        raise InputError(
            f"{path / str(version)}: version {version} exists already, and servers may hold it. "
            "Choose another version, or leave it out for the next free one."
        )


def publish(path: Path, version: int | None, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a hidden folder beside the target, then rename it into place.

    A server that watches `path` sees a whole version or none; a crash leaves a hidden folder that
    servers ignore.

    Args:
        path: the model's folder.
        version: version number, or None for the next free one.
        write: fills the folder that it is given.

    Returns:
        The new folder `path/version`.
    """
    hidden = Path(tempfile.mkdtemp(prefix=".export-", dir=path))
    try:
        write(hidden)
        hidden.chmod(0o755)
        while True:
            target = path / str(version or max(versions_in(path), default=0) + 1)
            try:
                os.rename(hidden, target)
                return target
            except OSError:
                # Another export may have taken the free number meanwhile: then try the next.
                if version is not None or not target.exists():
                    raise
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
