"""A run while it goes: a live bar on a terminal, plain lines elsewhere, and Ctrl-C."""

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bnzoo.cli.app import on_stop, quiet_console
from bnzoo.config import Config, expected_trials
from bnzoo.tuning.trials import Trial, score_text

REFRESH_SECONDS = 0.2


class EpochProgress(keras.callbacks.Callback):
    """One line per finished epoch; on a terminal also a bar over the steps of the whole run.

    Use it as a context manager, so that the bar goes away however the run ends.
    """

    def __init__(self, console: Console | None = None):
        super().__init__()
        self.console = console or quiet_console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}, left:"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = None
        self._drawn = 0.0

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text, markup=False)

    def on_epoch_begin(self, epoch, logs=None):
        """Begin the bar with the first epoch, which a resumed run does not start at 1."""
        self._epoch, self._started = epoch, time.perf_counter()
        steps = self.params["steps"]
        if self._task is None:
            self._first_epoch = epoch
            self._task = self._bar.add_task(
                "", total=steps and (self.params["epochs"] - epoch) * steps, unit="steps"
            )
        self._done = (epoch - self._first_epoch) * (steps or 0)

    def on_train_batch_end(self, batch, logs=None):
        """Move the bar, but not at every step: drawing costs more than a small step."""
        now = time.perf_counter()
        if self._bar.disable or now - self._drawn < REFRESH_SECONDS:
            return
        self._drawn = now
        self._bar.update(
            self._task,
            completed=self._done + batch + 1,
            description=f"epoch {self._epoch + 1}/{self.params['epochs']}  loss {logs['loss']:.4f}",
        )

    def on_epoch_end(self, epoch, logs=None):
        """Print what the epoch reached."""
        width = len(str(self.params["epochs"]))
        shown = "  ".join(f"{name} {float(value):.4f}" for name, value in logs.items())
        seconds = time.perf_counter() - self._started
        self.line(f"epoch {epoch + 1:>{width}}/{self.params['epochs']}  {shown}  {seconds:.1f} s")


class StudyProgress(EpochProgress):
    """The same for run after run, with one overall line: `run 4/9 before seed 1`."""

    def __init__(self, console: Console | None = None):
        super().__init__(console)
        self._overall = None

    def begin_run(self, position: int, total: int, label: str) -> None:
        """Show which run begins, and start the bar over the steps anew.

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


class SweepProgress(StudyProgress):
    """The same for trial after trial of a sweep; a trial has a run for each of its seeds.

    Args:
        config: the sweep's.
        console: where to draw; by default the standard output.
    """

    def __init__(self, config: Config, console: Console | None = None):
        super().__init__(console)
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


class Interruption(keras.callbacks.Callback):
    """Turn these signals into one `KeyboardInterrupt`, and see to it that it arrives.

    Python raises it wherever the main thread happens to be, and an exception inside a destructor
    or a callback from C is swallowed; so the next batch looks whether one was asked for. A
    scheduler's SIGTERM is treated as Ctrl-C: the run is recorded and can be resumed.
    """

    def __init__(self):
        super().__init__()
        self._asked = False
        on_stop(self._ask)

    def _ask(self, number, frame):
        self._asked = True
        raise KeyboardInterrupt

    def _look(self):
        if self._asked:
            raise KeyboardInterrupt

    def on_train_batch_begin(self, batch, logs=None):
        """Stop before the next step."""
        self._look()

    def on_test_batch_begin(self, batch, logs=None):
        """Stop before the next step of a validation."""
        self._look()
