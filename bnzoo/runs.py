"""The folders of runs and studies: the only file that knows what lies where in them."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from bnzoo.config import Config, differences, dump_config, load_resolved
from bnzoo.errors import InputError
from bnzoo.files import RowFile, make_writable_folder, read_rows, write_atomically

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

__all__ = [
    "HISTORY_COLUMNS",
    "STATUSES",
    "RowFile",
    "RunFolder",
    "StudyFolder",
    "read_rows",
    "usable_run",
    "write_atomically",
]

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


class _Folder:
    """What the folders of a run and of a study have in common: whose they are, and the summary."""

    kind: ClassVar[str]
    command: ClassVar[str]

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.summary_file = self.path / "summary.json"

    # --- opening ---------------------------------------------------------------------------------

    def start(self, config: Config) -> None:
        """Check that a new run or study of `config` can be written here; `claim` then does.

        Raises:
            InputError: the folder cannot be made or written, or holds a run or other files.
        """
        make_writable_folder(self.path)
        if self.config_file.exists():
            self._refuse_other(config)
            raise InputError(
                f"{self.path}: already holds a {self.kind} of this config "
                f"({self.status() or 'not finished'}). Add --resume to continue it, or choose "
                "another folder with --out."
            )
        # Hidden: what systems leave in every folder, and a kill in the middle of `claim` in this.
        strangers = sorted(entry.name for entry in self.path.iterdir() if entry.name[0] != ".")
        if strangers:
            raise InputError(
                f"{self.path}: expected an empty or new folder, found {', '.join(strangers[:3])}"
                f"{' and more' if len(strangers) > 3 else ''}. Choose another folder with --out."
            )

    def claim(self, config: Config) -> None:
        """Write the resolved configuration: from now on the folder is this run's or study's."""
        write_atomically(self.config_file, dump_config(config))
        self.summary_file.unlink(missing_ok=True)  # of an interrupted one that goes on

    def resume(self, config: Config) -> None:
        """Check that the folder holds a run or study of `config` that can be continued.

        Raises:
            InputError: there is none, or it is another config's.
        """
        if not self._holds_something():
            raise InputError(
                f"{self.path}: nothing to resume: expected a {self.kind} folder with config.yaml. "
                f"Leave --resume out to start a new {self.kind}, or name the {self.kind}'s folder "
                "with --out."
            )
        self._refuse_other(config)
        make_writable_folder(self.path)

    def _holds_something(self) -> bool:
        return self.config_file.exists()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing here; the system lets go if the process dies.

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
                f"{self.path}: another process is at work in this folder. "
                "Wait until it has ended, or choose another folder with --out."
            ) from None
        finally:
            os.close(descriptor)

    def _refuse_other(self, config: Config) -> None:
        if not self.config_file.exists():
            return
        found = self.config()
        kind = "study" if found.compare else "run"
        if kind != self.kind:
            raise InputError(
                f"{self.path}: holds a {kind}, and a {self.kind} was to be written. "
                "Choose another folder with --out."
            )
        changed = differences(found, config)
        if changed:
            raise InputError(
                f"{self.path}: holds a {self.kind} of another config. What differs:\n"
                + "\n".join(f"  {line}" for line in changed)
                + "\nChoose another folder with --out, or run with the config it holds."
            )

    # --- reading and writing ---------------------------------------------------------------------

    def config(self) -> Config:
        """Return the resolved configuration."""
        return load_resolved(self.config_file)

    def status(self) -> str | None:
        """Return the status of what has ended, one of `STATUSES`, else None."""
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
                f"{self.summary_file}: expected the summary of a {self.kind} that ended, got: "
                f"{error}. Finish the {self.kind} with `bnzoo {self.command} CONFIG --resume`."
            ) from None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`; NaN and infinite numbers become null, as JSON has none."""
        write_atomically(self.summary_file, json.dumps(_finite(summary), indent=2) + "\n")


class RunFolder(_Folder):
    """Reads and writes one run.

    `config.yaml` (resolved), `data.json` (what data it met), `history.csv` (a row per epoch),
    `model.keras`, `summary.json`, `weights_path.csv` where single weights are followed,
    `tensorboard/`, and while a run is not finished `checkpoint/`, from which it can be resumed.
    """

    kind, command = "run", "train"

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.data_file = self.path / "data.json"
        self.history_file = self.path / "history.csv"
        self.model_file = self.path / "model.keras"
        self.weights_path_file = self.path / "weights_path.csv"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoint"

    def claim(self, config: Config, data: dict[str, Any] | None = None) -> None:
        """Write the resolved configuration, and what data it met: the folder is this run's now.

        Args:
            config: of the run.
            data: facts about the data as it is now, JSON-able.

        Raises:
            InputError: a resumed run met other data before.
        """
        if data and self.data_file.exists():
            self._refuse_other_data(json.loads(self.data_file.read_text()), data)
        if data:
            write_atomically(self.data_file, json.dumps(data, indent=2) + "\n")
        super().claim(config)

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

    def history(self) -> list[dict[str, float | None]]:
        """Return one mapping per complete epoch; a cell that was not measured is None."""
        return read_rows(self.history_file)

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


class StudyFolder(_Folder):
    """Reads and writes one study.

    `config.yaml` (resolved, with its `compare` section), `runs/<variant>/seed-<n>/` (ordinary run
    folders), `summary.json`, `report.html`, and `figures/` with the report's figures as PNG.
    """

    kind, command = "study", "compare"

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.runs = self.path / "runs"
        self.report_file = self.path / "report.html"
        self.figures = self.path / "figures"

    def run(self, variant: str, seed: int) -> RunFolder:
        """Return the folder of the run of one variant with one seed."""
        return RunFolder(self.runs / variant / f"seed-{seed}")

    def _holds_something(self) -> bool:
        # Runs that `bnzoo train` made in their places are as good as our own.
        return super()._holds_something() or any(self.runs.glob("*/seed-*/config.yaml"))

    def best_run(self) -> RunFolder:
        """Return the run to use of a completed study.

        The variant is the one with the best mean test accuracy among those that never diverged
        (among all that have one, if all diverged once). Of its runs it is the one whose best
        epoch was best by the metric that selects epochs: validation accuracy where there is any.
        The test set has no say in which run it is, unless it is the validation set.

        Raises:
            InputError: the study is not completed, or each of its runs diverged.
        """
        summary = self.summary()
        if summary["status"] != "completed":
            raise InputError(
                f"{self.path}: expected a completed study, got one that is {summary['status']}. "
                f"Finish it with `bnzoo compare CONFIG --out {self.path} --resume`."
            )
        found = {
            name: variant
            for name, variant in summary["variants"].items()
            if variant["test_accuracy"]["n"]
        }
        steady = {name: variant for name, variant in found.items() if not variant["diverged"]}
        if not found:
            raise InputError(
                f"{self.path}: expected a run with usable weights, and every run diverged. "
                "Lower train.optimizer.learning_rate."
            )
        best = max((steady or found).values(), key=lambda one: one["test_accuracy"]["mean"])
        completed = [run for run in best["runs"] if run["status"] == "completed"]
        metric = completed[0]["selection_metric"]
        return RunFolder(self.path / max(completed, key=lambda run: run["best"][metric])["folder"])


def usable_run(path: str | Path) -> Path:
    """Return the folder of a study's best run; any other path as it is.

    Raises:
        InputError: as `StudyFolder.best_run`.
    """
    folder = StudyFolder(path)
    is_study = folder.config_file.is_file() and folder.config().compare is not None
    return folder.best_run().path if is_study else Path(path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
