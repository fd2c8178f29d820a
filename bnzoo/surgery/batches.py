"""Inputs of a model, batch by batch, from whatever holds them."""

import itertools
from collections.abc import Iterator
from numbers import Integral
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from bnzoo.errors import InputError

EXPECTED = (
    "a tf.data.Dataset, keras.utils.PyDataset or other iterable of batches, an array of inputs, or "
    "a tuple (x, y) of arrays"
)


class Batch(NamedTuple):
    """What `fit` would be given in one step."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    @property
    def size(self) -> int:
        """The number of examples."""
        return int(np.shape(tree.flatten(self.x)[0])[0])


class Batches:
    """The batches of a data set, as often as they are asked for.

    Args:
        dataset: x or (x, y) or (x, y, sample_weight) in batches, as `model.fit` takes them: a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or another iterable; or x in an array or a
            dict of arrays, or a tuple (x, y) or (x, y, sample_weight) of these. What can be read
            only once, such as a generator, is kept in memory.
        num_samples: with this example, or the first after it in its batch, it ends; None for all.
        batch_size: of arrays.

    Raises:
        InputError: the data is none of these, or endless, or `num_samples` is no count; when it is
            read, also where there is nothing in it.
    """

    def __init__(self, dataset: Any, num_samples: int | None = None, batch_size: int = 32):
        if num_samples is not None and not _is_count(num_samples):
            raise InputError(
                f"Received num_samples={num_samples!r}, expected a number of examples of at least "
                "1, or None for all. A few thousand are enough."
            )
        if num_samples is None and _is_endless(dataset):
            raise InputError(
                "Received a data set that repeats for ever, expected num_samples (--num-samples) "
                "with it: how many examples to take. A few thousand are enough."
            )
        self._num_samples, self._elements = num_samples, _elements(dataset, batch_size)
        if isinstance(self._elements, Iterator):
            self._elements = list(self._until_enough())

    def __iter__(self) -> Iterator[Batch]:
        """Yield whole batches."""
        found = 0
        for element in self._until_enough():
            batch = Batch(*_for_backend(keras.utils.unpack_x_y_sample_weight(element)))
            found += batch.size
            yield batch
        if not found:
            raise InputError("Received a data set without an example, expected at least one batch.")

    def kept(self) -> "Batches":
        """Return the same batches in memory: a data set may shuffle anew each time it is read."""
        return Batches(list(self._until_enough()))

    def first(self) -> Batch:
        """Return the first batch."""
        return next(iter(self))

    def _until_enough(self) -> Iterator[Any]:
        found = 0
        for element in self._elements:
            shape = np.shape(tree.flatten(keras.utils.unpack_x_y_sample_weight(element)[0])[0])
            if not len(shape):
                raise InputError(f"Received single numbers, expected {EXPECTED}. Add .batch(32).")
            yield element
            found += shape[0]
            if self._num_samples is not None and found >= self._num_samples:
                return


def _for_backend(parts: tuple) -> tuple:
    """Return tensors of TensorFlow as arrays where Keras' steps would not take them."""
    if keras.backend.backend() == "tensorflow":
        return parts
    return tree.map_structure(lambda one: one.numpy() if hasattr(one, "numpy") else one, parts)


class _Sliced:
    """Arrays as batches."""

    def __init__(self, arrays: Any, batch_size: int):
        self._arrays, self._batch_size = arrays, batch_size

    def __iter__(self):
        for start in range(0, len(tree.flatten(self._arrays)[0]), self._batch_size):
            part = slice(start, start + self._batch_size)
            yield tree.map_structure(lambda one, part=part: one[part], self._arrays)


class _Numbered:
    """A `keras.utils.PyDataset` as its batches, which it hands out by their numbers."""

    def __init__(self, dataset: keras.utils.PyDataset):
        self._dataset = dataset

    def __iter__(self):
        count = self._dataset.num_batches
        return map(self._dataset.__getitem__, itertools.count() if count is None else range(count))


def _elements(dataset: Any, batch_size: int) -> Any:
    if isinstance(dataset, dict | tuple) or hasattr(dataset, "__array__"):
        arrays = tree.map_structure(np.asarray, dataset)
        lengths = {np.shape(each)[:1] for each in tree.flatten(arrays)}
        if len(lengths) > 1 or () in lengths:
            shapes = [np.shape(each) for each in tree.flatten(arrays)]
            raise InputError(
                f"Received arrays of the shapes {shapes}, expected {EXPECTED}. All of them have as "
                "many examples, along their first axis."
            )
        return _Sliced(arrays if isinstance(dataset, tuple) else (arrays,), batch_size)
    if isinstance(dataset, keras.utils.PyDataset):
        return _Numbered(dataset)
    if not hasattr(dataset, "__iter__") or isinstance(dataset, str):
        raise InputError(f"Received {type(dataset).__name__}, expected {EXPECTED}.")
    return dataset


def _is_count(number: Any) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool) and number >= 1


def _is_endless(dataset: Any) -> bool:
    if isinstance(dataset, keras.utils.PyDataset):
        return dataset.num_batches is None
    cardinality = getattr(dataset, "cardinality", None)
    return cardinality is not None and int(cardinality()) == -1  # tf.data.INFINITE_CARDINALITY
