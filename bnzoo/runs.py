"""The run folder: the only file that knows what lies where in it."""

import contextlib
import csv
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bnzoo.config import Config, differences, dump_config, load_config
from bnzoo.errors import InputError
from bnzoo.files import make_writable_folder, write_atomically

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

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

    `config.yaml` (resolved), `data.json` (what data it met), `history.csv` (a row per epoch),
    `model.keras`, `summary.json`, `weights_path.csv` where single weights are followed,
    `tensorboard/`, and while a run is not finished `checkpoint/`, from which it can be resumed.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.data_file = self.path / "data.json"
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
        make_writable_folder(self.path)
        if self.config_file.exists():
            self._refuse_other(config)
            raise InputError(
                f"{self.path}: already holds a run of this config "
                f"({self.status() or 'not finished'}). Add --resume to continue it, or choose "
                "another folder with --out."
            )
        strangers = sorted(entry.name for entry in self.path.iterdir() if entry.name[0] != ".")
        if strangers:
            raise InputError(
                f"{self.path}: expected an empty or new folder, found {', '.join(strangers[:3])}"
                f"{' and more' if len(strangers) > 3 else ''}. Choose another folder with --out."
            )

    def claim(self, config: Config, data: dict[str, Any]) -> None:
        """Write the resolved configuration and what data it met: the folder is this run's now.

        Args:
            config: of the run.
            data: facts about the data as it is now, JSON-able.

        Raises:
            InputError: a resumed run met other data before.
        """
        if self.data_file.exists():
            self._refuse_other_data(json.loads(self.data_file.read_text()), data)
        write_atomically(self.data_file, json.dumps(data, indent=2) + "\n")
        write_atomically(self.config_file, dump_config(config))
        self.summary_file.unlink(missing_ok=True)  # of an interrupted run that goes on

    def _refuse_other_data(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if changed:
            raise InputError(
                f"{self.path}: the data is not what this run began with. What differs:\n"
                + "\n".join(
                    f"  {key}: {before.get(key)} there, {now.get(key)} now" for key in changed
                )
                + "\nBring the data back, or start a new run in another folder with --out."
            )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing this run; the system lets go if the process dies.

        Raises:
            InputError: another process holds it.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise InputError(
                f"{self.path}: another process is training in this folder. "
                "Wait until it has ended, or choose another folder with --out."
            ) from None
        finally:
            os.close(descriptor)

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
        make_writable_folder(self.path)

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
        for path in self.checkpoints.glob("epoch-*.keras"):
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
