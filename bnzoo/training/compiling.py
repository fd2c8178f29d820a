"""Compile a model as the `train` section says; Keras has the algorithms, we only name them."""

import json
from typing import Any

import keras
from keras import tree
from keras.optimizers import schedules

from bnzoo import own_code
from bnzoo.config import Train


def compile_model(model: keras.Model, train: Train, steps_per_epoch: int) -> None:
    """Compile with the loss and the metrics of a run.

    Without a loss in the config it is classification: cross-entropy on logits, accuracy.

    Args:
        model: then its outputs are logits of shape (batch, ..., classes).
        train: the checked `train` section.
        steps_per_epoch: batches in one epoch.

    Raises:
        InputError: importing a function of the user's own fails.
    """
    if train.loss is None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metrics: Any = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    else:
        loss = tree.map_structure(_found, train.loss)
        # Keras takes lists, and no tuples.
        metrics = json.loads(json.dumps(train.metrics or []))
        metrics = tree.map_structure(_found, metrics)
    model.compile(
        optimizer=build_optimizer(train, steps_per_epoch),
        loss=loss,
        metrics=metrics,
        jit_compile=train.jit_compile,
    )


def _found(name: str) -> Any:
    """Return a loss or a metric of the user's own; names of Keras as they are."""
    found = own_code.load(name) if own_code.is_reference(name) else name
    return found() if isinstance(found, type) else found


def build_optimizer(train: Train, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of a run with its learning-rate schedule.

    Args:
        train: the checked `train` section.
        steps_per_epoch: batches in one epoch; schedules count in steps, configs in epochs.
    """
    arguments = train.optimizer.model_dump(exclude={"name"})
    arguments["learning_rate"] = _learning_rate(train, steps_per_epoch)
    return type(keras.optimizers.get(train.optimizer.name))(**arguments)


def _learning_rate(train: Train, steps_per_epoch: int) -> float | schedules.LearningRateSchedule:
    rate, schedule = train.optimizer.learning_rate, train.schedule
    if schedule.name == "constant":
        return rate
    if schedule.name == "exponential":
        return schedules.ExponentialDecay(
            rate,
            decay_steps=schedule.decay_epochs * steps_per_epoch,
            decay_rate=schedule.decay_rate,
            staircase=schedule.staircase,
        )
    if schedule.name == "step":
        return schedules.PiecewiseConstantDecay(
            # Keras counts steps from 0 and keeps the old rate at the boundary itself.
            [epoch * steps_per_epoch - 1 for epoch in schedule.epochs],
            [rate * schedule.factor**power for power in range(len(schedule.epochs) + 1)],
        )
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    decay_steps = max(train.epochs * steps_per_epoch - warmup_steps, 1)
    start, target = (0.0, rate) if warmup_steps else (rate, None)
    return schedules.CosineDecay(
        start, decay_steps, schedule.alpha, warmup_target=target, warmup_steps=warmup_steps
    )
