"""Compile a model as the `train` section says; Keras has the algorithms, we only name them."""

import keras
from keras.optimizers import schedules

from bnzoo.config import Train


def compile_model(model: keras.Model, train: Train, steps_per_epoch: int) -> None:
    """Compile for classification: cross-entropy on logits, accuracy.

    Args:
        model: its output are logits of shape (batch, classes).
        train: the checked `train` section.
        steps_per_epoch: batches in one epoch.
    """
    model.compile(
        optimizer=build_optimizer(train, steps_per_epoch),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=train.jit_compile,
    )


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
