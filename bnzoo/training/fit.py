"""From a configuration to a fitted run in its folder."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from bnzoo import data, environment, own_code
from bnzoo.config import Config
from bnzoo.config.own import OwnModel
from bnzoo.errors import plural
from bnzoo.runs import RunFolder
from bnzoo.saving import save_model
from bnzoo.training.building import build_for, first_batch, load_data
from bnzoo.training.callbacks import FollowWeights, RecalibrateEpochs, Record
from bnzoo.training.checkpoints import load_checkpoint
from bnzoo.training.distribution import Replicas, description
from bnzoo.training.findings import find_problems
from bnzoo.training.opening import opened
from bnzoo.training.settings import devices, run_settings
from bnzoo.training.stopping import DivergenceStop, best_row, selection_metric, should_stop
from bnzoo.training.tensorboard import tensorboard_callbacks

Watch = Callable[[keras.Model, "data.Splits", RunFolder, int], keras.callbacks.Callback]


def train(
    config: Config,
    out: str | Path,
    resume: bool | None = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    announce: Callable[[str], None] = lambda line: None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Run a configuration to its end and return its summary.

    With `train.distribute: multi_worker` each worker calls this, with the same arguments. The chief
    alone writes into `out`, holds it and announces; the others write what they write into a folder
    that goes away, and read from `out` what they resume from. They end alike.

    Args:
        config: the checked configuration; `compare` and `tune` sections are left aside.
        out: the run folder; made if missing.
        resume: continue the run in `out` at its last complete epoch. A run that ended is left as
            it is. None: if there is one.
        callbacks: more Keras callbacks, such as a progress display.
        announce: called with lines that say what is about to happen.
        watch: makes a callback of the model, the data, the run folder and its number of complete
            epochs; what it writes down at the end of an epoch is there before the checkpoint.

    Returns:
        The content of `summary.json`.

    Raises:
        FolderHeld: another process is at work on the run.
        InputError: the folder holds something else, or data and model do not fit together; here or
            on another worker.
        KeyboardInterrupt: again, after an interrupted run has been recorded.
    """
    config = config.single_run()
    replicas = Replicas(config.train.distribute)
    if not replicas.is_chief:
        announce = lambda line: None  # noqa: E731
    with opened(RunFolder(out), config, resume, replicas, announce) as folder:
        if folder.has_ended():
            if folder.status() == "completed":
                folder.usable_model()
                folder.drop_checkpoints()  # of one that was killed while it did
            announce(f"{folder.path} has already ended: nothing to resume.")
            return folder.summary()
        with run_settings(config):
            summary = _Run(config, folder, callbacks, announce, watch, replicas).run()
        replicas.together(lambda: None)  # while one is at work, the others must be there
        return summary


class _Run:
    """The parts of one run, built in order; `run` joins them."""

    def __init__(self, config, folder, callbacks, announce, watch, replicas):
        self.config, self.folder, self.announce = config, folder, announce
        self.replicas = replicas
        announce(f"Loading {config.data.name} ...")
        self.splits = splits = replicas.together(self._load_data)
        replicas.check_same(config.data.name, splits.fingerprint)
        self.steps_per_epoch = splits.steps_per_epoch
        self.epochs_done, self.model = self._model()
        self.divergence = DivergenceStop(self.steps_per_epoch, folder)
        self.findings = []
        follow = config.train.follow_weights
        followers = [FollowWeights(self.model, follow, folder, self.epochs_done)] if follow else []
        if watch:
            followers.append(watch(self.model, splits, folder, self.epochs_done))
        samples = config.train.recalibrate
        description = self._description()
        folder.claim(config, describe_splits(splits), replicas.describe())
        stopping = config.train.early_stopping
        self.record = Record(folder, self.epochs_done, self.divergence, stopping)
        self.callbacks = [
            # A resumed run sees the batches of an undisturbed one.
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, _: splits.begin_epoch(epoch)
            ),
            self.divergence,
            *([RecalibrateEpochs(splits, samples)] if samples else []),
            *followers,  # before the checkpoint: a row without one is written again
            self.record,
            *(
                tensorboard_callbacks(config, folder.tensorboard, splits.train)
                if replicas.is_chief
                else ()
            ),
            *callbacks,
        ]
        announce(description)
        if isinstance(config.model, OwnModel) and (line := replicas.unsynchronized(self.model)):
            announce(line)

    def _load_data(self) -> "data.Splits":
        splits = load_data(self.config)
        if self.replicas.is_distributed:
            self.batch = first_batch(splits.train)
            self.replicas.check_data(splits, self.batch)
        return splits

    def _model(self) -> tuple[int, keras.Model]:
        found = self.folder.last_checkpoint()
        if found:
            self.announce(f"Resuming after epoch {found[0]}.")
            return found[0], self._load(found[1])
        model = build_for(self.config, self.splits, self.replicas)
        return 0, self._divided(model)

    def _load(self, file: Path) -> keras.Model:
        with self.replicas.scope():
            model = load_checkpoint(file, self.config)
        return self._divided(model)

    def _divided(self, model: keras.Model) -> keras.Model:
        if self.replicas.is_distributed:
            self.replicas.prepare(model, self.batch)
        return model

    def _description(self) -> str:
        found = describe_splits(self.splits)["examples"]
        sizes = ", ".join(f"{count:,} {name}" for name, count in found.items() if count)
        model = self.config.model
        norm = "group" if getattr(model, "group_norm", None) else "batch"
        files = plural(len(self.splits.skipped), "unreadable file")
        place = description(self.replicas, devices())
        reading = f"{self.splits.reading}\n" if self.splits.reading else ""
        return (
            f"Data: {sizes} examples{f'; {files} skipped' if self.splits.skipped else ''}\n"
            f"{reading}"
            f"Model: {model.name}, {norm} normalization: {model.placement}, "
            f"{self.model.count_params():,} parameters\n"
            f"Run: {plural(self.config.train.epochs, 'epoch')} of "
            f"{plural(self.steps_per_epoch, 'step')} on {place}, in {self.folder.path}"
        )

    def run(self) -> dict[str, Any]:
        try:
            self._fit()
            if self.divergence.diverged:
                return self._finish("diverged")
            self._restore_best()
            shares = self.replicas.share(self.splits.test)
            tested = self.model.evaluate(shares, verbose=0, return_dict=True)
            if math.isfinite(tested["loss"]) and self.replicas.is_chief:
                self.findings = self._find_problems()
        except (KeyboardInterrupt, SystemExit):
            self._finish("interrupted")
            raise
        if not math.isfinite(tested["loss"]):
            # The last update ruined the weights, and nothing was measured after it until now.
            epochs = len(self.record.rows)
            self.divergence.diverged = {"epoch": epochs, "step": epochs * self.steps_per_epoch}
            return self._finish("diverged")
        save_model(self.model, self.folder.model_file)
        summary = self._finish("completed", {key: float(value) for key, value in tested.items()})
        self.folder.drop_checkpoints()
        for one in self.findings:
            self.announce(f"problem: {one['line']}")
        return summary

    def _find_problems(self) -> list[dict[str, str]]:
        model = self.model
        if self.replicas.is_distributed:  # what looks at a model is made for one process
            saved = self.folder.checkpoint(self.model_epoch)
            file = saved if saved.exists() else self.folder.model_file
            model = load_checkpoint(file, self.config)
        # Of this epoch, a resumed run has the same batches.
        batches = self.splits.first_epoch
        return find_problems(model, batches, self.announce, self.replicas.count)

    def _fit(self) -> None:
        is_over = self.epochs_done >= self.config.train.epochs
        if is_over or should_stop(self.record.rows, self.config.train.early_stopping):
            return
        with own_code.named(self.config.own_functions()):
            self.model.fit(
                self.replicas.share(self.splits.train),
                validation_data=self.replicas.share(self.splits.validation),
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
            if self.folder.checkpoints.exists():  # or the model is what was restored before
                self.model = self._load(self.folder.checkpoint(self.model_epoch))

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
            "findings": self.findings,
            "seconds": round(sum(row["seconds"] for row in rows), 3),
            "parameters": self.model.count_params(),
            "data": describe_splits(self.splits),
            "protocol": _protocol(self.config.data.validation, self.splits),
            "versions": environment.versions(),
            "device": devices(),
            "replicas": self.replicas.describe(),
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
        "input_shape": json.loads(json.dumps(splits.input_shape)),  # as it is read back
        "class_names": list(splits.class_names),
        "preprocessing": splits.preprocessing.to_dict(),
        "reading": splits.reading,
    }


def _protocol(validation: float | str, splits: "data.Splits") -> str:
    if not splits.num_test:
        part = "validation" if splits.num_validation else "training"
        return f"no test set: the {part} data stands in for it, so nothing is said of new data"
    if validation == "test":
        return "published protocol: the test set is measured after each epoch, as validation"
    part = "no validation"
    if validation != "none":
        part = f"validation on {validation:g} of the training set"
    return f"{part}; the test set was read once, at the end"
