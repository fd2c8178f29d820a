"""Files that survive a crash: written whole, or a row at a time."""

import contextlib
import csv
import io
import os
import reprlib
import stat
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bnzoo.errors import InputError

MAX_TEXT = 2**28
"""Bytes of a text file of a run: a history of a million epochs takes half of it."""


def user_path(text: str) -> Path:
    """Return a path as a person writes it, `~` expanded.

    Raises:
        InputError: there can be none of that name, or nothing can be known of it.
    """
    try:
        path = Path(text).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except (OSError, RuntimeError, ValueError) as error:  # too long; no such user; with a NUL
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"{reprlib.repr(text)}: expected a path that can be read, got: {why}. Check the path."
        ) from None
    return path


def read_text(path: Path) -> str:
    """Return the text of a file of a run's folder, which may be damaged or made by somebody else.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is no file (a pipe or a device has no end), too large, or not UTF-8.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InputError(f"{path}: expected a file, got something else.")
        data = file.read(MAX_TEXT + 1)
    try:
        if len(data) > MAX_TEXT:
            raise ValueError(f"more than {MAX_TEXT:,} bytes")
        return data.decode("utf-8")
    except ValueError as error:
        raise InputError(f"{path}: expected a text in UTF-8, got: {error}.") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe nobody writes to


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


@contextlib.contextmanager
def no_empty_folder(path: Path) -> Iterator[None]:
    """If the block fails, remove the folders, up to `path`, that it made and left empty."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # it is not empty, or was never made
                folder.rmdir()
        raise


class RowFile:
    """A CSV file that grows with each epoch and survives being cut off in the middle.

    Args:
        path: the file.
        columns: its heading; `epoch` among them.
        keep_epochs: rows of later epochs are dropped on opening (they will be run again).
    """

    def __init__(self, path: Path, columns: Sequence[str], keep_epochs: int):
        self.path, self.columns = path, columns
        self.rows = [row for row in read_rows(path) if row["epoch"] <= keep_epochs]
        self._write()

    def append(self, *rows: dict[str, Any]) -> None:
        """Add rows and make sure that they are on disk."""
        self.rows.extend(rows)
        self._write()

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue())


def read_rows(path: Path) -> list[dict[str, float | None]]:
    """Return the rows of a CSV file of numbers; no file, no rows.

    Raises:
        InputError: the file is damaged; the line is named.
    """
    if not path.exists():
        return []
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="?")
    try:
        return [{"epoch": int(row["epoch"])} | _numbers(row) for row in rows]
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}, line {rows.line_num}: expected numbers below the names of their columns, "
            f"epoch among them, got a damaged file ({error}). Bring it back, or start anew in "
            "another folder."
        ) from None


def _numbers(row: dict[str, str]) -> dict[str, float | None]:
    whole = ("epoch", "step")
    return {
        key: None if value == "" else int(value) if key in whole else float(value)
        for key, value in row.items()
    }


def read_columns(path: Path) -> tuple[str, ...]:
    """Return the heading of a CSV file; no file, no columns."""
    if not path.exists():
        return ()
    return tuple(next(csv.reader(io.StringIO(read_text(path), newline="")), ()))


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, sees the old or the new one, never half."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give the path of a hidden file to write, which then takes the place of `path` at once.

    If the block fails, or the disk is full, `path` is as it was and no litter is left.
    """
    writer = f"{os.getpid()}-{threading.get_ident()}"  # two may write the same file
    temporary = path.with_name(f".{path.stem}.{writer}.partial{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # or a power cut could leave the new name with nothing in it
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what killed processes were writing in a folder, which nobody else writes to now."""
    for path in folder.glob(".*.partial*"):
        path.unlink(missing_ok=True)
