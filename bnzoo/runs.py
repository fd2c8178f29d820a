"""The run folder: the only file that knows what lies where in it."""

import csv
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bnzoo.config import Config, differences, dump_config, load_config
from bnzoo.errors import InputError

HISTORY_COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "seconds",
)
STATUSES = ("completed", "diverged", "interrupted")


class RunFolder:
    """Reads and writes one run.

    `config.yaml` (resolved), `history.csv` (a row per epoch), `model.keras`, `summary.json`,
    `weights_path.csv` where single weights are followed, `tensorboard/`, and while a run is not
    finished `checkpoint/`, from which it can be resumed.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.history_file = self.path / "history.csv"
        self.model_file = self.path / "model.keras"
        self.summary_file = self.path / "summary.json"
        self.weights_path_file = self.path / "weights_path.csv"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoint"

    # --- opening ---------------------------------------------------------------------------------

    def start(self, config: Config) -> None:
        """Check that a new run of `config` can be written here; `claim` then does.

        Raises:
            InputError: the folder cannot be made or written, or holds a run or other files.
        """
        self._make()
        if self.config_file.exists():
            self._refuse_other(config)
            raise InputError(
                f"{self.path}: already holds a run of this config "
                f"({self.status() or 'not finished'}). Add --resume to continue it, or choose "
                "another folder with --out."
            )
        strangers = sorted(entry.name for entry in self.path.iterdir())
        if strangers:
            raise InputError(
                f"{self.path}: expected an empty or new folder, found {', '.join(strangers[:3])}"
                f"{' and more' if len(strangers) > 3 else ''}. Choose another folder with --out."
            )

    def claim(self, config: Config) -> None:
        """Write the resolved configuration: from now on the folder is this run's."""
        write_atomically(self.config_file, dump_config(config))
        self.summary_file.unlink(missing_ok=True)  # of an interrupted run that goes on

    def resume(self, config: Config) -> None:
        """Check that the folder holds a run of `config` that can be continued.

        Raises:
            InputError: there is no run, or it is another config's.
        """
        if not self.config_file.exists():
            raise InputError(
                f"{self.path}: nothing to resume: expected a run folder with config.yaml. "
                "Leave --resume out to start a new run, or name the run's folder with --out."
            )
        self._refuse_other(config)
        self._make()

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                f"{self.path}: expected a folder, got a file (itself or on the way). "
                "Choose another folder with --out."
            ) from None
        except OSError as error:
            raise InputError(
                f"{self.path}: expected a folder that can be written, got: {error.strerror}. "
                "Choose another folder with --out."
            ) from None

    def _refuse_other(self, config: Config) -> None:
        changed = differences(self.config(), config)
        if changed:
            raise InputError(
                f"{self.path}: holds a run of another config. What differs:\n"
                + "\n".join(f"  {line}" for line in changed)
                + "\nChoose another folder with --out, or run with the config it holds."
            )

    # --- reading ---------------------------------------------------------------------------------

    def config(self) -> Config:
        """Return the resolved configuration of the run."""
        return load_config(self.config_file)

    def status(self) -> str | None:
        """Return the status of a run that ended, one of `STATUSES`, else None."""
        return self.summary()["status"] if self.summary_file.exists() else None

    def summary(self) -> dict[str, Any]:
        """Return the content of `summary.json`.

        Raises:
            InputError: there is none that can be read.
        """
        try:
            return json.loads(self.summary_file.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise InputError(
                f"{self.summary_file}: expected the summary of a run that ended, got: {error}. "
                "Finish the run with `bnzoo train CONFIG --resume`."
            ) from None

    def history(self) -> list[dict[str, float | None]]:
        """Return one mapping per complete epoch; a cell that was not measured is None."""
        return read_rows(self.history_file)

    # --- writing ---------------------------------------------------------------------------------

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`; NaN and infinite numbers become null, as JSON has none."""
        write_atomically(self.summary_file, json.dumps(_finite(summary), indent=2) + "\n")

    # --- checkpoints -----------------------------------------------------------------------------

    def checkpoint(self, epochs_done: int) -> Path:
        """Return the file that holds the training state after so many complete epochs."""
        return self.checkpoints / f"epoch-{epochs_done:05d}.keras"

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """Return the newest checkpoint as (complete epochs, file), or None."""
        found = []
        for path in self.checkpoints.glob("epoch-*.keras"):
            if match := re.fullmatch(r"epoch-(\d+)\.keras", path.name):
                found.append((int(match[1]), path))
        return max(found, default=None)

    def keep_checkpoints(self, epochs: set[int]) -> None:
        """Remove the checkpoints of all other epochs."""
        kept = {self.checkpoint(epochs_done).name for epochs_done in epochs}
        for path in self.checkpoints.glob("*.keras"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def drop_checkpoints(self) -> None:
        """Remove the whole checkpoint folder, once the run has ended."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
