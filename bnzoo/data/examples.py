"""Examples in the three forms we hold them: arrays in memory, image files, a stream of records.

Each form turns a subset of its examples into batches with one method, `batches`:

    subset: int64 array of shape (m,), the examples to present, ascending.
    key: key of the random order (see `randomness`), or `None` for the order of `subset`.
    batch_size: examples per batch; the last one may be smaller.
    finish: maps a batch (raw images, labels, indices) to what the model is given.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

from bnzoo.data import preprocessing
from bnzoo.data.randomness import shuffled

AUTOTUNE = tf.data.AUTOTUNE

Finish = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Prepare = Callable[[tf.Tensor], tf.Tensor]


class Examples(Protocol):
    """Labelled examples of one split; `labels` is an int32 array of shape (n,)."""

    labels: np.ndarray

    def batches(
        self, subset: np.ndarray, key: tf.Tensor | None, batch_size: int, finish: Finish
    ) -> tf.data.Dataset:
        """Present a subset in batches (see the module)."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayExamples:
    """Examples in memory.

    Attributes:
        features: uint8 or float32 tensor of shape (n, ...), on the CPU.
        labels: int32 array of shape (n,).
        prepare: applied to each gathered batch of features; resizing that would not fit into
            memory all at once goes here.
    """

    features: tf.Tensor
    labels: np.ndarray
    prepare: Prepare | None = None

    def batches(
        self, subset: np.ndarray, key: tf.Tensor | None, batch_size: int, finish: Finish
    ) -> tf.data.Dataset:
        """Present a subset in batches; whole batches are gathered at once."""
        order = _ordered(subset, key)
        labels = tf.constant(self.labels)

        def gather(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            indices = order[batch * batch_size : (batch + 1) * batch_size]
            features = tf.gather(self.features, indices)
            if self.prepare is not None:
                features = self.prepare(features)
            return finish(features, tf.gather(labels, indices), indices)

        num_batches = -(-len(subset) // batch_size)
        return tf.data.Dataset.range(num_batches).map(gather, num_parallel_calls=AUTOTUNE)


@dataclasses.dataclass(frozen=True, eq=False)
class FileExamples:
    """Image files, decoded when they are needed.

    Attributes:
        paths: string array of shape (n,).
        labels: int32 array of shape (n,).
        shape: (height, width, channels) of every image, after resizing and conversion.
    """

    paths: np.ndarray
    labels: np.ndarray
    shape: tuple[int, int, int]

    def batches(
        self, subset: np.ndarray, key: tf.Tensor | None, batch_size: int, finish: Finish
    ) -> tf.data.Dataset:
        """Present a subset in batches; files are read and decoded in parallel."""
        paths, labels = tf.constant(self.paths), tf.constant(self.labels)

        def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = preprocessing.decode(tf.io.read_file(paths[index]), self.shape[2])
            return preprocessing.resize(image, self.shape[:2]), index

        return (
            tf.data.Dataset.from_tensor_slices(_ordered(subset, key))
            .map(read, num_parallel_calls=AUTOTUNE)
            .batch(batch_size)
            .map(lambda images, indices: finish(images, tf.gather(labels, indices), indices))
        )


@dataclasses.dataclass(frozen=True, eq=False)
class StreamExamples:
    """Encoded records read one after the other, for sets that fit into memory in no other way.

    Attributes:
        records: makes the data set of (bytes, label), always in the same order.
        labels: int32 array of shape (n,), in that order.
        prepare: maps the bytes of one image to its uint8 pixels.
        buffer_size: records among which the next one is drawn when shuffling. The order is random
            only within such a window, unlike that of the other two forms.
    """

    records: Callable[[], tf.data.Dataset]
    labels: np.ndarray
    prepare: Prepare
    buffer_size: int

    def batches(
        self, subset: np.ndarray, key: tf.Tensor | None, batch_size: int, finish: Finish
    ) -> tf.data.Dataset:
        """Present a subset in batches; images are decoded in parallel, after shuffling."""
        member = np.zeros(len(self.labels), bool)
        member[subset] = True
        member = tf.constant(member)
        dataset = self.records().enumerate().filter(lambda index, _: member[index])
        if key is not None:
            dataset = _shuffle_records(dataset, self.buffer_size, key)
        return (
            dataset.map(
                lambda index, record: (self.prepare(record[0]), record[1], index),
                num_parallel_calls=AUTOTUNE,
            )
            .batch(batch_size)
            .map(finish)
        )


def to_cpu(array: np.ndarray) -> tf.Tensor:
    """Copy an array into a tensor in main memory, also where there is a GPU."""
    with tf.device("CPU:0"):
        return tf.constant(array)


def _ordered(subset: np.ndarray, key: tf.Tensor | None) -> tf.Tensor:
    indices = tf.constant(subset, tf.int64)
    return indices if key is None else shuffled(indices, key)


def _shuffle_records(dataset: tf.data.Dataset, buffer_size: int, key: tf.Tensor) -> tf.data.Dataset:
    # `shuffle` mixes the global seed of the graph it is traced in with its own; the key alone must
    # decide. The constant is any but 0, which would make it compare the other seed with 0 too.
    graph = tf.compat.v1.get_default_graph()
    outer_seed, graph.seed = graph.seed, 1
    dataset = dataset.shuffle(
        buffer_size, seed=tf.cast(key[0], tf.int64), reshuffle_each_iteration=False
    )
    graph.seed = outer_seed
    return dataset
