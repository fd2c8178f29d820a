"""How long a study will take, measured on a few steps before it starts."""

import contextlib
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import keras

from bnzoo import data
from bnzoo.config import Config
from bnzoo.models import build_model
from bnzoo.training.callbacks import find_weight
from bnzoo.training.compiling import compile_model
from bnzoo.training.settings import run_settings

# The first steps compile and fill caches; then enough for a median, but no longer than the seconds.
SKIPPED_STEPS, MEASURED_STEPS, MEASURED_SECONDS = 3, 30, 3.0
VALIDATION_STEPS = 5


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast the runs of a variant go.

    Attributes:
        start: seconds before a run's first epoch: loading data, building and compiling.
        epoch: seconds of an epoch.
    """

    start: float
    epoch: float

    def seconds(self, epochs: int) -> float:
        """Return the estimate for a run, or for the rest of one, of so many epochs."""
        return self.start + epochs * self.epoch


def measure_pace(config: Config) -> Pace:
    """Train a few steps of a configuration and throw them away.

    Raises:
        InputError: its data cannot be loaded or does not fit its model, or a weight to follow does
            not exist: better before the first run than hours later.
    """
    with run_settings(config):
        started = time.perf_counter()
        splits = data.load(**config.data.model_dump(), seed=config.seed)
        model = build_model(config.model.resolved(splits.input_shape, splits.num_classes))
        for followed in config.train.follow_weights:
            find_weight(model, followed)
        compile_model(model, config.train, len(splits.train))
        clock = _Clock()
        with contextlib.suppress(_Enough):
            model.fit(
                splits.train,
                epochs=SKIPPED_STEPS + 1,
                callbacks=[clock],
                shuffle=False,
                verbose=0,
            )
        compiling, validation = _validation_seconds(model, splits.validation)
        return Pace(
            start=clock.first - started + compiling,
            epoch=len(splits.train) * clock.step_seconds + validation + _saving_seconds(model),
        )


def _validation_seconds(model: keras.Model, validation: Iterable | None) -> tuple[float, float]:
    """Return the seconds to compile the validation, and those of going through it once."""
    if validation is None:
        return 0.0, 0.0
    steps = min(len(validation), VALIDATION_STEPS)
    first = _seconds(lambda: model.evaluate(validation, steps=1, verbose=0))
    again = _seconds(lambda: model.evaluate(validation, steps=steps, verbose=0))
    return first, again / steps * len(validation)


def _saving_seconds(model: keras.Model) -> float:
    """Return the seconds of the checkpoint that each epoch ends with."""
    with tempfile.TemporaryDirectory() as folder:
        return _seconds(lambda: model.save(Path(folder) / "model.keras"))


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def duration(seconds: float) -> str:
    """Return a time in words: `"0.3 s"`, `"40 s"`, `"12 min"`, `"3 h 20 min"`."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class _Enough(Exception):
    """Enough steps were measured; Keras has no other way out in the middle of an epoch."""


class _Clock(keras.callbacks.Callback):
    """Time training steps, and leave as soon as there are enough.

    Attributes:
        first: when the first step had been made.
        step_seconds: mean of the measured steps.
    """

    def __init__(self):
        super().__init__()
        self._ends: list[float] = []

    def on_train_batch_end(self, batch, logs=None):
        """Note the time once the step is really done: its loss is a number."""
        float(logs["loss"])
        self._ends.append(time.perf_counter())
        measured = len(self._ends) - SKIPPED_STEPS
        long_enough = measured > 0 and self._ends[-1] - self._ends[0] > MEASURED_SECONDS
        if measured >= MEASURED_STEPS or long_enough:
            raise _Enough

    @property
    def first(self) -> float:
        return self._ends[0]

    @property
    def step_seconds(self) -> float:
        ends = self._ends[min(SKIPPED_STEPS, len(self._ends) - 1) :]
        if len(ends) < 2:
            return 0.0
        # The median of the steps: a pause between two epochs of a small data set is no step.
        steps = sorted(later - sooner for sooner, later in itertools.pairwise(ends))
        return steps[len(steps) // 2]
