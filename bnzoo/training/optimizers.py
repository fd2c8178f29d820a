"""From the `train` section to a Keras optimizer; Keras has the algorithms, we only name them."""

import keras

from bnzoo.config import Train


def build_optimizer(train: Train, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of a run with its learning-rate schedule.

    Args:
        train: the checked `train` section.
        steps_per_epoch: batches in one epoch; schedules count in steps, configs in epochs.
    """
    arguments = train.optimizer.model_dump(exclude={"name"})
    arguments["learning_rate"] = _learning_rate(train, steps_per_epoch)
    return type(keras.optimizers.get(train.optimizer.name))(**arguments)


def _learning_rate(
    train: Train, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    schedules, rate, schedule = (
        keras.optimizers.schedules,
        train.optimizer.learning_rate,
        train.schedule,
    )
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
    if not warmup_steps:
        return schedules.CosineDecay(rate, decay_steps, alpha=schedule.alpha)
    return schedules.CosineDecay(
        0.0, decay_steps, alpha=schedule.alpha, warmup_target=rate, warmup_steps=warmup_steps
    )
