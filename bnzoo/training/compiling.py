"""Compile a model for classification, as the `train` section says."""

import keras

from bnzoo.config import Train
from bnzoo.training.optimizers import build_optimizer


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
