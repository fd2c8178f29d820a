"""From a configuration to a fitted run in its folder."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from bnzoo import data, environment
from bnzoo.config import Config
from bnzoo.loading import load_keras_file
from bnzoo.models import build_model
from bnzoo.runs import HISTORY_COLUMNS, RunFolder
from bnzoo.training.callbacks import EpochOrder, FollowWeights, Record, save_model
from bnzoo.training.compiling import compile_model
from bnzoo.training.divergence import DivergenceStop
from bnzoo.training.selection import best_row, selection_metric, should_stop
from bnzoo.training.settings import devices, run_settings


def train(
    config: Config,
    out: str | Path,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    announce: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run a configuration to its end and return its summary.

    Args:
        config: the checked configuration; `compare` and `tune` sections are left aside.
        out: the run folder; made if missing.
        resume: continue the run in `out` at its last complete epoch. A run that ended is left as
            it is.
        callbacks: more Keras callbacks, such as a progress display.
        announce: called with lines that say what is about to happen.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError: the folder holds something else, or data and model do not fit together.
        KeyboardInterrupt: again, after an interrupted run has been recorded.
    """
    config, folder = config.single_run(), RunFolder(out)
    if resume:
        folder.resume(config)
        if folder.has_ended():
            announce(f"{folder.path} has already ended: nothing to resume.")
            return folder.summary()
    else:
        folder.start(config)
    with folder.held(), run_settings(config):
        return _Run(config, folder, callbacks, announce).run()


class _Run:
    """The parts of one run, built in order; `run` joins them."""

    def __init__(self, config, folder, callbacks, announce):
        self.config, self.folder, self.announce = config, folder, announce
        announce(f"Loading {config.data.name} ...")
        self.splits = data.load(**config.data.model_dump(), seed=config.seed)
        self.steps_per_epoch = len(self.splits.train)
        self.epochs_done, self.model = self._model()
        self.divergence = DivergenceStop(self.steps_per_epoch, folder)
        follow = config.train.follow_weights
        followers = [FollowWeights(self.model, follow, folder, self.epochs_done)] if follow else []
        description = self._description()
        folder.claim(config, describe_splits(self.splits))
        self.record = Record(
            folder, HISTORY_COLUMNS, self.epochs_done, self.divergence, config.train.early_stopping
        )
        self.callbacks = [
            EpochOrder(self.splits.begin_epoch),
            self.divergence,
            *followers,
            self.record,
            *self._tensorboard(),
            *callbacks,
        ]
        announce(description)

    def _model(self) -> tuple[int, keras.Model]:
        found = self.folder.last_checkpoint()
        if found:
            self.announce(f"Resuming after epoch {found[0]}.")
            return found[0], load_keras_file(found[1])
        splits = self.splits
        model = build_model(self.config.model.resolved(splits.input_shape, splits.num_classes))
        compile_model(model, self.config.train, self.steps_per_epoch)
        return 0, model

    def _tensorboard(self) -> list[keras.callbacks.Callback]:
        if not self.config.train.tensorboard:
            return []
        return [keras.callbacks.TensorBoard(self.folder.tensorboard, write_graph=False)]

    def _description(self) -> str:
        found = describe_splits(self.splits)["examples"]
        sizes = ", ".join(f"{count:,} {name}" for name, count in found.items() if count)
        model = self.config.model
        reading = f"{self.splits.reading}\n" if self.splits.reading else ""
        return (
            f"Data: {sizes} examples{_skipped(self.splits)}\n"
            f"{reading}"
            f"Model: {model.name}, batch normalization: {model.placement}, "
            f"{self.model.count_params():,} parameters\n"
            f"Run: {self.config.train.epochs} epochs of {self.steps_per_epoch:,} steps on "
            f"{', '.join(devices())}, in {self.folder.path}"
        )

    def run(self) -> dict[str, Any]:
        try:
            self._fit()
            if self.divergence.diverged:
                return self._finish("diverged")
            self._restore_best()
            tested = self.model.evaluate(self.splits.test, verbose=0, return_dict=True)
        except (KeyboardInterrupt, SystemExit):
            self._finish("interrupted")
            raise
        if not math.isfinite(tested["loss"]):
            # The last update ruined the weights, and nothing was measured after it until now.
            self.divergence.stop_after_training(self.record.rows)
            return self._finish("diverged")
        save_model(self.model, self.folder.model_file)
        summary = self._finish("completed", {key: float(value) for key, value in tested.items()})
        self.folder.drop_checkpoints()
        return summary

    def _fit(self) -> None:
        if should_stop(self.record.rows, self.config.train.early_stopping):
            return
        self.model.fit(
            self.splits.train,
            validation_data=self.splits.validation,
            epochs=self.config.train.epochs,
            initial_epoch=self.epochs_done,
            callbacks=self.callbacks,
            shuffle=False,  # the pipeline shuffles; Keras warns that it cannot
            verbose=0,
        )

    def _restore_best(self) -> None:
        stopping = self.config.train.early_stopping
        self.model_epoch = self.record.rows[-1]["epoch"]
        if stopping and stopping.restore_best_weights:
            self.model_epoch = best_row(self.record.rows, stopping.monitor)["epoch"]
            self.model = load_keras_file(self.folder.checkpoint(self.model_epoch))

    def _finish(self, status: str, tested: dict[str, float] | None = None) -> dict[str, Any]:
        rows = self.record.rows
        metric = selection_metric(rows)
        summary = {
            "status": status,
            "epochs": len(rows),
            "steps": len(rows) * self.steps_per_epoch,
            "diverged": self.divergence.diverged,
            "first_batch_loss": self.divergence.first_loss,
            "final": rows[-1] if rows else None,
            "best": {"metric": metric, "row": best_row(rows, metric)},
            "test": tested,
            "model_epoch": self.model_epoch if tested else None,
            "seconds": round(sum(row["seconds"] for row in rows), 3),
            "parameters": self.model.count_params(),
            "data": describe_splits(self.splits),
            "protocol": _protocol(self.config.data.validation),
            "versions": environment.versions(),
            "device": devices(),
            "machine": environment.machine(),
        }
        if self.divergence.diverged:
            summary["steps"] = self.divergence.diverged["step"]
        self.folder.write_summary(summary)
        return self.folder.summary()


def describe_splits(splits: "data.Splits") -> dict[str, Any]:
    """Return what a run's summary says of its data, as JSON has it."""
    return {
        "name": splits.name,
        "examples": {
            "training": splits.num_train,
            "validation": splits.num_validation,
            "test": splits.num_test,
        },
        "skipped": len(splits.skipped),
        "fingerprint": splits.fingerprint,
        "input_shape": list(splits.input_shape),
        "class_names": list(splits.class_names),
        "preprocessing": splits.preprocessing.to_dict(),
        "reading": splits.reading,
    }


def _skipped(splits: "data.Splits") -> str:
    count = len(splits.skipped)
    return f"; {count} unreadable file{'s' if count > 1 else ''} skipped" if count else ""


def _protocol(validation: float | str) -> str:
    if validation == "test":
        return "published protocol: the test set is measured after each epoch, as validation"
    if validation == "none":
        return "no validation; the test set was read once, at the end"
    return (
        f"validation on {validation:g} of the training set; the test set was read once, at the end"
    )
