"""Calls of a model in training mode that leave no trace in it, and the examples for them."""

import itertools
from collections.abc import Callable
from typing import Any

import keras

from bnzoo import data


def stateless(model: keras.Model, function: Callable) -> Callable:
    """Compile a function of a model so that a call in the midst of training changes nothing.

    What the model would update, moving statistics and the seeds of dropout, is thrown away, so
    that each call also sees the same dropout.

    Args:
        model: whose variables the function may read.
        function: takes and returns (nested) tensors.
    """
    variables = model.variables

    def call(values, *arguments):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arguments)

    compiled = _compile(call)
    return lambda *arguments: compiled([one.value for one in variables], *arguments)


def _compile(function: Callable) -> Callable:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    if backend == "jax":
        import jax

        return jax.jit(function)
    return function


def training_batches(splits: "data.Splits", examples: int) -> list[tuple[Any, ...]]:
    """Return the first batches of training, until they hold so many examples.

    Args:
        splits: the data of a run; its next epoch is to be begun by its number.
        examples: as many at least, or as many as there are.

    Returns:
        Tuples of arrays (x, y), all of one size.
    """
    splits.begin_epoch(0)  # an epoch may be a few batches only: then the next ones follow
    epochs = (data.numpy_batches(splits.train) for _ in itertools.count())
    batches = itertools.chain.from_iterable(epochs)
    found, wanted = [next(batches)], min(examples, splits.num_train)
    size = _size(found[0])
    while len(found) * size < wanted:
        batch = next(batches)
        if _size(batch) == size:  # not the smaller last one of an epoch
            found.append(batch)
    return found


def _size(batch: tuple) -> int:
    return len(keras.tree.flatten(batch)[0])
