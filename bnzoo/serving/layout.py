"""`NAME/VERSION/`: how versions of a model lie on disk, and how one gets there whole."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from bnzoo.errors import InputError
from bnzoo.files import make_writable_folder


def versions_in(path: Path) -> list[int]:
    """Return the version numbers that are taken in a model folder, rising."""
    if not path.is_dir():
        return []
    names = (entry.name for entry in path.iterdir())
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


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
        return _rename_into_place(hidden, path, version)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise


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
