"""Inputs for a model of which there are no real examples: values that it can tell apart."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from bnzoo.serving.signature import input_spec
from bnzoo.surgery.copying import with_sublayers
from bnzoo.surgery.graph import Graph

UNKNOWN_SIZE = 16  # stands in for a dimension that the model leaves open
NUM_WORDS = 6  # in a text
WHOLE_NUMBERS = range(10)  # where nothing tells how large they may be
WORDS = ("a", "b", "c", "d", "e", "f", "g", "h")

LOOKUPS = (layers.IntegerLookup, layers.StringLookup, layers.TextVectorization)
PASSES_ON = {
    *("Cast", "ExpandDims", "Flatten", "GetItem", "Identity", "Masking", "Permute", "Ravel"),
    *("RepeatVector", "Reshape", "Split", "Squeeze", "StopGradient", "Transpose", "Unstack"),
}
"""Names of layers and operations that hand on the values that they get."""


def made_up_inputs(model: keras.Model, count: int) -> tuple[np.ndarray, str]:
    """Make inputs up: what the layer that reads them knows, otherwise what the dtype suggests.

    Args:
        model: with one input and one output.
        count: how many.

    Returns:
        Array of shape (count, *input_shape) in the model's dtype, object for strings; and what
        it holds, in words.
    """
    spec, random = input_spec(model), np.random.default_rng(0)
    shape = (count, *(size or UNKNOWN_SIZE for size in spec.shape[1:]))
    reader = min(_readers(model, spec.dtype), key=lambda layer: len(_known(layer)), default=None)
    if reader is None and spec.dtype.is_floating:
        return random.random(shape).astype(spec.dtype.as_numpy_dtype), "random numbers"
    values = _known(reader) if reader else _usual(spec.dtype)
    if isinstance(reader, layers.TextVectorization):
        chosen = [" ".join(random.choice(values, NUM_WORDS)) for _ in range(np.prod(shape))]
        chosen = np.array(chosen, object).reshape(shape)
    else:
        chosen = np.asarray(values)[random.integers(len(values), size=shape)]
    return chosen.astype(spec.dtype.as_numpy_dtype), _in_words(values, reader)


def _readers(model: keras.Model, dtype: tf.DType) -> Iterator[keras.Operation]:
    """Find what reads the model's input as one of a known set of values."""
    graph = Graph(keras.Model(model.inputs, model.outputs))
    waiting = list(model.inputs)
    while waiting:
        for operation, outputs in graph.users(waiting.pop()):
            if _known(operation):
                yield operation
            elif type(operation).__name__ in PASSES_ON:
                waiting.extend(outputs)
            elif isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
                yield from _readers(operation, dtype)
            # A layer of the user's own that takes whole numbers, and looks them up inside.
            elif isinstance(operation, layers.Layer) and not dtype.is_floating:
                yield from (layer for layer in with_sublayers(operation) if _known(layer))


def _known(operation: keras.Operation) -> Sequence:
    """Return the values that a layer or an operation tells apart; empty if any will do."""
    if isinstance(operation, LOOKUPS):
        if getattr(operation, "invert", False):
            return range(operation.vocabulary_size())
        return operation.get_vocabulary(include_special_tokens=False)
    if isinstance(operation, layers.Embedding):
        return range(operation.input_dim)
    if isinstance(operation, layers.CategoryEncoding):
        return range(operation.num_tokens)
    is_one_hot = type(operation).__name__ == "OneHot"
    return range(operation.num_classes if is_one_hot else 0)


def _usual(dtype: tf.DType) -> Sequence:
    if dtype == tf.string:
        return WORDS
    if dtype == tf.bool:
        return (False, True)
    return range(dtype.min, dtype.max + 1) if dtype.size == 1 else WHOLE_NUMBERS


def _in_words(values: Sequence, reader: keras.Operation | None) -> str:
    kind = f"whole numbers from {values[0]} to {values[-1]}"
    if not isinstance(values, range):
        kind = "words" if isinstance(values[0], str) else "values"
    return f"random {kind}" + (f" that layer {reader.name!r} knows" if reader else "")
