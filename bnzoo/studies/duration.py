"""How long a study will take, measured on a few steps before it starts."""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras

from bnzoo import own_code
from bnzoo.config import Config
from bnzoo.training.building import build_for, load_data
from bnzoo.training.callbacks import RecalibrateEpochs, find_weight
from bnzoo.training.settings import run_settings

# The first steps compile and fill caches; then enough for a median, but no longer than the seconds.
SKIPPED_STEPS, MEASURED_STEPS, MEASURED_SECONDS = 3, 30, 3.0
VALIDATION_STEPS = 5


def measure_seconds(config: Config) -> tuple[float, float]:
    """Train a few steps of a configuration and throw them away.

    Returns:
        The seconds before a run's first epoch (loading data, building and compiling), and those
        of an epoch.

    Raises:
        InputError: its data cannot be loaded or does not fit its model, or a weight to follow does
            not exist: better before the first run than hours later.
    """
    with run_settings(config):
        started = time.perf_counter()
        splits = load_data(config)
        model = build_for(config, splits)
        for followed in config.train.follow_weights:
            find_weight(model, followed)
        clock = _Clock()
        with own_code.named(config.own_functions()):
            model.fit(
                splits.train, epochs=SKIPPED_STEPS + 1, callbacks=[clock], shuffle=False, verbose=0
            )
        start = clock.ends[0] - started
        epoch = splits.steps_per_epoch * clock.step_seconds()
        if splits.validation is not None:
            steps = min(len(splits.validation), VALIDATION_STEPS)
            start += _seconds(lambda: model.evaluate(splits.validation, steps=1, verbose=0))
            again = _seconds(lambda: model.evaluate(splits.validation, steps=steps, verbose=0))
            epoch += again / steps * len(splits.validation)
        if config.train.recalibrate:
            recalibration = RecalibrateEpochs(splits, config.train.recalibrate)
            recalibration.set_model(model)
            epoch += _seconds(recalibration.update)
        with tempfile.TemporaryDirectory() as folder:  # each epoch ends with a checkpoint
            epoch += _seconds(lambda: model.save(Path(folder) / "model.keras"))
        return start, epoch


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


class _Clock(keras.callbacks.Callback):
    """Note when each training step ends, and stop as soon as there are enough."""

    def __init__(self):
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch, logs=None):
        """Note the time once the step is really done: its loss is a number."""
        float(logs["loss"])
        self.ends.append(time.perf_counter())
        measured, seconds = len(self.ends) - SKIPPED_STEPS, self.ends[-1] - self.ends[0]
        if measured >= MEASURED_STEPS or (measured > 0 and seconds > MEASURED_SECONDS):
            self.model.stop_training = True

    def step_seconds(self) -> float:
        """Return the median: a pause between two epochs of a small data set is no step."""
        ends = self.ends[min(SKIPPED_STEPS, len(self.ends) - 1) :]
        return statistics.median(b - a for a, b in itertools.pairwise(ends)) if ends[1:] else 0.0
