"""Files that survive a crash: written whole, or a row at a time."""

import csv
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

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


class RowFile:
    """A CSV file that grows by a row per epoch and survives being cut off in the middle.

    Args:
        path: the file.
        columns: its heading; `epoch` among them.
        keep_epochs: rows of later epochs are dropped on opening (they will be run again).
    """

    def __init__(self, path: Path, columns: Sequence[str], keep_epochs: int):
        self.path, self.columns = path, columns
        kept = [row for row in read_rows(path) if row["epoch"] <= keep_epochs]
        self.rows = kept
        self._write(kept)

    def append(self, row: dict[str, Any]) -> None:
        """Add one row and make sure that it is on disk."""
        self.rows.append(row)
        self._write(self.rows)

    def _write(self, rows: Iterable[dict]) -> None:
        lines = [",".join(_quoted(column) for column in self.columns)]
        lines += [",".join(_cell(row.get(column)) for column in self.columns) for row in rows]
        write_atomically(self.path, "\n".join(lines) + "\n")


def read_rows(path: Path) -> list[dict[str, float | None]]:
    """Return the rows of a CSV file of numbers; no file, no rows."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {
                key: None if value == "" else int(value) if key == "epoch" else float(value)
                for key, value in row.items()
            }
            for row in csv.DictReader(file)
        ]


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


def _quoted(text: str) -> str:
    return f'"{text}"' if "," in text else text


def _cell(value: Any) -> str:
    return "" if value is None else repr(value)
