"""Writing so that neither a crash nor a full disk leaves anything half done."""

import os
import tempfile
from pathlib import Path

from bnzoo.errors import InputError


def make_writable_folder(path: Path) -> None:
    """Make a folder if needed, and make sure that files can be written into it.

    Raises:
        InputError: it, or something on the way to it, is a file, or may not be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"{path}: expected a folder, got a file (itself or on the way). "
            "Choose another folder with --out."
        ) from None
    except OSError as error:
        raise InputError(
            f"{path}: expected a folder that can be written, got: {error.strerror}. "
            "Choose another folder with --out."
        ) from None


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, sees the old or the new one, never half."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
