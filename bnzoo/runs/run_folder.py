"""The folder of one run: the only file that knows what lies where in it."""

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnzoo import own_code
from bnzoo.archives import archive_damage
from bnzoo.config import Config, load_resolved
from bnzoo.errors import InputError, plural
from bnzoo.files import (
    RowFile,
    read_columns,
    read_rows,
    read_text,
    remove_partial,
    write_atomically,
)
from bnzoo.runs.checkpoint import read_checkpoint
from bnzoo.runs.folder import Folder, read_json, what_differs
from bnzoo.runs.metrics import history_columns
from bnzoo.runs.summaries import RunSummary

_BESIDE_DATA = ("code", "replicas")

Announce = Callable[[str], None]
HISTORY_COLUMNS = history_columns(("loss", "accuracy"))
"""Of a classifier; what else is measured has columns of its own."""


class RunFolder(Folder):
    """Reads and writes one run.

    `config.yaml` (resolved), `data.json` (what data it met), `history.csv` (a row per epoch),
    `model.keras`, `summary.json`, `weights_path.csv` where single weights are followed,
    `watched.csv` where a study watches the training, `tensorboard/`, `code/` with the text of files
    of the user's own, as evidence: nothing here is ever run by itself; and while a run is not
    finished `checkpoint/`, from which it can be resumed.
    """

    kind, command, summary_schema = "run", "train", RunSummary

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.data_file = self.path / "data.json"
        self.history_file = self.path / "history.csv"
        self.model_file = self.path / "model.keras"
        self.weights_path_file = self.path / "weights_path.csv"
        self.watched_file = self.path / "watched.csv"
        self.tensorboard = self.path / "tensorboard"
        self.code = self.path / "code"
        self.checkpoints = self.path / "checkpoint"
        self.first_loss_file = self.checkpoints / "first_loss.json"

    def claim(
        self,
        config: Config,
        data: dict[str, Any] | None = None,
        replicas: dict[str, int] | None = None,
    ) -> None:
        """Write the resolved configuration, and what data it met: the folder is this run's now.

        Args:
            config: of the run.
            data: facts about the data as it is now, JSON-able.
            replicas: what trains a distributed run: `processes` and `replicas`.

        Raises:
            InputError: a resumed run met other data before.
        """
        if data:
            self.check_data(data)
        super().claim(config)  # first: without it the folder is nobody's, and other files strange
        if data:
            code = own_code.digests(config.own_functions())
            beside = {"code": code, "replicas": replicas}
            facts = data | {key: value for key, value in beside.items() if value}
            write_atomically(self.data_file, json.dumps(facts, indent=2) + "\n")
        self._keep_code(config)

    def _met(self) -> dict[str, Any]:
        return read_json(self.data_file) if self.data_file.exists() else {}

    def check_data(self, now: dict[str, Any]) -> None:
        """Check that a run has met this data, if it has met any.

        Args:
            now: facts about the data, JSON-able.

        Raises:
            InputError: it has met other data; what differs is named.
        """
        before = {key: value for key, value in self._met().items() if key not in _BESIDE_DATA}
        # A fact that earlier versions did not record is no difference.
        changed = [key for key in before if before[key] != now.get(key)]
        if changed:
            lines = [f"{key}: {before[key]} there, {now.get(key)} now" for key in changed]
            raise InputError(
                f"{self.path}: the data is not what this run began with. {what_differs(lines)}"
                "Bring the data back, or start a new run in another folder with --out."
            )

    def check_replicas(self, now: dict[str, int] | None) -> None:
        """Check that a resumed run is trained by as many replicas as it began with.

        Args:
            now: as of `claim`.

        Raises:
            InputError: it is not.
        """
        before = self._met().get("replicas")
        if before and before != now:
            there, here = (f"{one['replicas']} in {one['processes']}" for one in (before, now))
            raise InputError(
                f"{self.path}: expected the replicas that this run began with, {there} processes, "
                f"got {here}. Resume it on the same cluster, or start a new run with --out."
            )

    def _keep_code(self, config: Config) -> None:
        """Keep the text of the user's files; how they are told from others is in `data.json`."""
        for name, text in own_code.sources(config.own_functions()).items():
            self.code.mkdir(exist_ok=True)
            plain = re.sub(r"[^\w.-]+", "-", name.removesuffix(".py")).strip("-.")
            write_atomically(self.code / f"{plain}.py", text)

    def resume(self, config: Config, announce: Announce = lambda line: None) -> None:
        """Mend what a checkpoint can, and check that a run of `config` can be continued here.

        Args:
            config: of the run.
            announce: called with lines that say what was mended.

        Raises:
            InputError: there is none, it is another config's, its checkpoint is gone, or the user's
                own files are others.
        """
        self._mend(announce)
        super().resume(config)
        own_code.check_unchanged(self._met().get("code", {}), config.own_functions())
        epochs, (done, _) = len(self.history()), self.last_checkpoint() or (0, None)
        newest = next(iter(self._saved_epochs()), 0) if done else 0
        # A crash leaves one row more than checkpoints, beside the loss of the first batch.
        is_whole = done <= epochs <= max(done, newest) + 1
        is_whole = is_whole and bool(done or not epochs or self.checkpoints.exists())
        if not (self.has_ended() or is_whole):
            raise InputError(
                f"{self.path}: expected a history and a checkpoint of the same epoch, got "
                f"history.csv with {plural(epochs, 'epoch')} and in checkpoint/ "
                f"{f'epoch {done}' if done else 'none'}. "
                f"Bring back what is missing, or train anew {self._elsewhere}"
            )

    @property
    def _elsewhere(self) -> str:
        return f"with `bnzoo train {self.config_file} --out {self.path}-again`."

    def usable_model(self) -> Path:
        """Return the file of the trained model.

        Raises:
            InputError: there is none; it says how to get one.
        """
        if self.model_file.exists():
            return self.model_file
        if not self.config_file.exists():
            raise InputError(
                f"{self.path}: expected a run folder with config.yaml and model.keras, found "
                "neither. Make one with `bnzoo train CONFIG --out DIR`."
            )
        status = self.status() or "not finished"
        advice = f"Finish it with `bnzoo train {self.config_file} --out {self.path} --resume`."
        if status == "diverged":
            advice = "It has no usable weights; lower train.optimizer.learning_rate."
        elif status == "completed":
            advice = f"Bring it back, or train anew {self._elsewhere}"
        raise InputError(f"{self.path}: the run is {status} and has no model.keras. {advice}")

    def has_ended(self) -> bool:
        """Tell whether the run is done, by coming to its end or by diverging.

        It is not where `summary.json` is damaged: what was in it can be measured again.
        """
        try:
            return self.status() in ("completed", "diverged")
        except InputError:
            return False

    def history(self) -> list[dict[str, float | None]]:
        """Return one mapping per complete epoch; a cell that was not measured is None."""
        rows = read_rows(self.history_file)
        measured = {"epoch", "loss", "seconds"}
        if any(not measured <= row.keys() or row["seconds"] is None for row in rows):
            raise InputError(
                f"{self.history_file}: expected the columns {', '.join(sorted(measured))}, got "
                f"{', '.join(rows[0])}. Bring it back, or train anew {self._elsewhere}"
            )
        return rows

    def checkpoint(self, epochs_done: int) -> Path:
        """Return the file that holds the training state after so many complete epochs."""
        return self.checkpoints / f"epoch-{epochs_done:05d}.keras"

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """Return the newest whole checkpoint as (complete epochs, file), or None.

        Of a run that has trained to its end, and only lost its summary, that is the trained model.
        """
        epochs = self._saved_epochs()
        whole = (one for one in epochs if not archive_damage(self.checkpoint(one)))
        newest = next(whole, None)
        if newest:
            return newest, self.checkpoint(newest)
        is_trained = not epochs and self.model_file.exists() and self.history()
        return (self.history()[-1]["epoch"], self.model_file) if is_trained else None

    def _saved_epochs(self) -> list[int]:
        """Return of which epochs there are checkpoints, whole or not, the newest first."""
        files = self.checkpoints.glob("epoch-*.keras")
        numbers = (path.stem.removeprefix("epoch-") for path in files)
        return sorted((int(one) for one in numbers if one.isdecimal()), reverse=True)

    def carried(self) -> dict[str, dict[str, str]]:
        """Return the text of the other files of the run, for a checkpoint to hold."""
        there = (path for path in self._mendable() if path.exists())
        return {"files": {path.name: path.read_text(encoding="utf-8") for path in there}}

    def _mendable(self) -> list[Path]:
        rows = [self.history_file, self.weights_path_file, self.watched_file]
        return [self.config_file, self.data_file, self.first_loss_file, *rows]

    def _mend(self, announce: Announce) -> None:
        """Write what is damaged as the newest whole checkpoint has it."""
        found = self.last_checkpoint()
        for epoch in self._saved_epochs():
            if found and epoch <= found[0]:
                break
            announce(f"{self.checkpoint(epoch)} is damaged; what was saved before it is used.")
        saved = read_checkpoint(found[1]).get("files", {}) if found else {}
        for path in self._mendable():
            if path.name in saved and not _is_whole(path, saved[path.name]):
                write_atomically(path, saved[path.name])
                announce(f"{path} was damaged or gone; it is again as the last checkpoint has it.")

    def keep_checkpoints(self, epochs: set[int]) -> None:
        """Remove the checkpoints of all other epochs."""
        kept = {self.checkpoint(epochs_done) for epochs_done in epochs}
        for path in {*self.checkpoints.glob("epoch-*.keras")} - kept:
            path.unlink()
        remove_partial(self.checkpoints)

    def begin_from(self, earlier: "RunFolder", config: Config) -> None:
        """Make this folder a run that goes on where a completed one ended, for more epochs.

        Where the earlier run has no model, because it diverged, nothing is made.

        Args:
            earlier: a run of the same configuration but for `train.epochs`.
            config: of this run.
        """
        if not earlier.model_file.exists():
            return
        summary = earlier.summary()
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(earlier.model_file, self.checkpoint(summary["model_epoch"]))
        self.keep_first_loss(summary["first_batch_loss"])
        for name in ("data_file", "history_file", "weights_path_file"):
            if getattr(earlier, name).exists():
                shutil.copyfile(getattr(earlier, name), getattr(self, name))
        columns = read_columns(self.history_file) or HISTORY_COLUMNS
        RowFile(self.history_file, columns, summary["model_epoch"])  # drops later rows
        super().claim(config)

    def keep_first_loss(self, loss: float) -> None:
        """Write down the loss of the run's first batch, by which divergence is judged."""
        self.checkpoints.mkdir(exist_ok=True)
        write_atomically(self.first_loss_file, json.dumps(loss) + "\n")

    def first_loss(self) -> float | None:
        """Return the loss of the run's first batch, or None where there is none yet."""
        file = self.first_loss_file
        if not file.exists():
            return None
        with contextlib.suppress(ValueError):
            return float(read_text(file))
        raise InputError(f"{file}: expected the loss of the first batch, got something else.")

    def drop_checkpoints(self) -> None:
        """Remove the whole checkpoint folder, once the run has ended."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def _is_whole(path: Path, saved: str) -> bool:
    """Tell whether a file of a run holds what was saved of it; rows grow behind that."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith(saved):
            return True
        if path.name not in ("config.yaml", "data.json") or saved.startswith(text):
            return False
        # These a newer version writes in its own way when the run goes on.
        json.loads(text) if path.suffix == ".json" else load_resolved(path)
    except (OSError, ValueError):
        return False
    return True
