"""A run while it goes: a live bar on a terminal, plain lines elsewhere, and Ctrl-C."""

import sys
import time

import keras

from bnzoo.cli.app import on_stop, quiet_bar, quiet_console
from bnzoo.config import Config, expected_trials
from bnzoo.tuning.trials import Trial, score_text


class EpochProgress(keras.callbacks.Callback):
    """One line per finished epoch; on a terminal also a bar over the steps of the whole run.

    Of several runs there is one overall line besides: `run 4/9 before seed 1`.

    Use it as a context manager, so that the bar goes away however the run ends.
    """

    def __init__(self):
        super().__init__()
        self._bar = quiet_bar()
        self._task = self._overall = None

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False)

    def on_epoch_begin(self, epoch, logs=None):
        """Begin the bar with the first epoch, which a resumed run does not start at 1."""
        self._epoch, self._started = epoch, time.perf_counter()
        steps = self.params["steps"]
        if self._task is None:
            self._first_epoch = epoch
            total = (self.params["epochs"] - epoch) * steps
            self._task = self._bar.add_task("", total=total, unit="steps")
        self._done = (epoch - self._first_epoch) * steps

    def on_train_batch_end(self, batch, logs=None):
        """Move the bar; it is drawn a few times a second by a thread of its own."""
        if not self._bar.disable:
            epoch = f"epoch {self._epoch + 1}/{self.params['epochs']}"
            description = f"{epoch}  loss {logs['loss']:.4f}"
            completed = self._done + batch + 1
            self._bar.update(self._task, completed=completed, description=description)

    def on_epoch_end(self, epoch, logs=None):
        """Print what the epoch reached."""
        width = len(str(self.params["epochs"]))
        shown = "  ".join(f"{name} {float(value):.4f}" for name, value in logs.items())
        seconds = time.perf_counter() - self._started
        self.line(f"epoch {epoch + 1:>{width}}/{self.params['epochs']}  {shown}  {seconds:.1f} s")

    def begin_run(self, position: int, total: int, label: str) -> None:
        """Show which of several runs begins, and start the bar over the steps anew.

        Args:
            position: of the run among all, from 1; earlier ones are done.
            total: number of runs.
            label: variant and seed.
        """
        text = f"run {position}/{total} {label}"
        self.line(text)
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        if self._overall is None:
            self._overall = self._bar.add_task("", total=total, completed=position - 1, unit="runs")
        self._bar.update(self._overall, completed=position - 1, description=text)


class SweepProgress(EpochProgress):
    """The same for trial after trial of a sweep; a trial has a run for each of its seeds.

    Args:
        config: the sweep's.
    """

    def __init__(self, config: Config):
        super().__init__()
        self._objective = config.tune.objective
        self._seeds, self._total = config.tune.seeds_from(config.seed), expected_trials(config)

    def begin_trial(self, trial: Trial, seed: int) -> None:
        """Show which run of which trial begins."""
        position = trial.number * len(self._seeds) + self._seeds.index(seed) + 1
        self.begin_run(position, self._total * len(self._seeds), f"{trial.name}, seed {seed}")

    def end_trial(self, trial: Trial, score: float) -> None:
        """Print what a trial reached."""
        place = f"trial {trial.number + 1}/{self._total}"
        self.line(f"{place}  {trial.name}  {score_text(score, self._objective)}")


class ExampleProgress:
    """The examples seen so far, live on a terminal, and nothing elsewhere; a context manager.

    Attributes:
        examples: of the pass that goes on.
    """

    def __init__(self):
        self.examples, self._status = 0, quiet_console().status("reading data")

    def __enter__(self):
        self._status.start()
        return self

    def __exit__(self, *error):
        self._status.stop()

    def show(self, what: str, examples: int) -> None:
        """Show what is going on, and how far it is."""
        self.examples = examples
        self._status.update(f"{what}: {examples:,} examples")


class Interruption(keras.callbacks.Callback):
    """Turn these signals into one `KeyboardInterrupt`, and see to it that it arrives.

    Python raises it wherever the main thread happens to be, and an exception inside a destructor
    or a callback from C is swallowed; so the next batch looks whether one was asked for. A
    scheduler's SIGTERM is treated as Ctrl-C: the run is recorded and can be resumed.
    """

    def __init__(self):
        super().__init__()
        self._asked = False
        if getattr(sys.unraisablehook, "__func__", None) is not Interruption._unraisable:
            self._usual, sys.unraisablehook = sys.unraisablehook, self._unraisable
        on_stop(self._ask)

    def _unraisable(self, swallowed):
        """Print what Python swallows as it does, but for an interrupt: it is raised once more."""
        if not isinstance(swallowed.exc_value, KeyboardInterrupt):
            self._usual(swallowed)

    def _ask(self, number, frame):
        self._asked = True
        raise KeyboardInterrupt

    def on_train_batch_begin(self, batch, logs=None):
        """Stop before the next step, of training or of a validation."""
        if self._asked:
            raise KeyboardInterrupt

    on_test_batch_begin = on_train_batch_begin
