"""Calls of a model in training mode that leave no trace in it, and the examples for them."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras

from bnzoo import data
from bnzoo.errors import InputError


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


def part_of(model: keras.Model, outputs: Any) -> keras.Model:
    """Return the part of a functional model that leads to some of its symbolic tensors."""
    is_sequential = isinstance(model, keras.Sequential)  # has no `input` before it is called
    return keras.Model(model.inputs[0] if is_sequential else model.input, outputs, name="part")


def _compile(function: Callable) -> Callable:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    if backend == "jax":
        import jax

        return jax.jit(function)
    return function


def loss_and_gradients(model: keras.Model, weights: list[keras.Variable]) -> Callable:
    """Compile the loss of a batch in training mode and its gradient; the model stays as it is.

    TensorFlow only.

    Args:
        model: compiled.
        weights: for which the gradient is taken.

    Returns:
        A function of their values, which need not be those of the model, and of the batch's x, y
        and, where there are any, weights of the examples; it returns the loss and the gradients.
    """
    import tensorflow as tf

    @tf.function
    def call(values, x, y, *sample_weight):
        with tf.GradientTape() as tape:
            tape.watch(values)
            with keras.StatelessScope(state_mapping=list(zip(weights, values, strict=True))):
                predicted = model(x, training=True)
                loss = model.compute_loss(x, y, predicted, *sample_weight, training=True)
        return loss, tape.gradient(loss, values, unconnected_gradients="zero")

    return call


def check_differentiable() -> None:
    """Refuse backends on which no gradient can be asked for in the midst of training.

    Raises:
        InputError: the backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "expected the TensorFlow backend, which can be asked for gradients, got "
            f"{keras.backend.backend()}. Set KERAS_BACKEND=tensorflow."
        )


def training_examples(splits: "data.Splits", examples: int) -> list[tuple[Any, ...]]:
    """Return the first batches of training, until they hold so many examples, or all there are."""
    batches = training_batches(splits)
    first = next(batches)
    count = -(-min(examples, splits.num_train) // _size(first))
    return [first, *itertools.islice(batches, count - 1)]


def training_batches(splits: "data.Splits") -> Iterator[tuple[Any, ...]]:
    """Yield the batches of training in arrays (x, y), from the first on and without an end.

    Smaller ones, at the end of an epoch, are left out: each shape would be compiled anew.

    Args:
        splits: the data of a run; its next epoch is to be begun by its number.
    """
    splits.begin_epoch(0)
    epochs = (data.numpy_batches(splits.train) for _ in itertools.count())
    batches = itertools.chain.from_iterable(epochs)
    first = next(batches)
    yield first
    yield from (batch for batch in batches if _size(batch) == _size(first))


def _size(batch: tuple) -> int:
    return len(keras.tree.flatten(batch)[0])
