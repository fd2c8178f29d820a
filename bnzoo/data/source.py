"""What every source of data delivers: its examples, in one of two forms, and what is known of them.

Examples are in memory (arrays, or the paths of files), or a stream of records. Each form turns a
subset of its examples into batches with one method, `batches`:

    subset: int64 array of shape (m,), the examples to present, ascending.
    key: key of the random order (see `randomness`), or `None` for the order of `subset`.
    batch_size: examples per batch; the last one may be smaller.
    finish: maps a batch (raw images, labels, indices) to what the model is given.
"""

import dataclasses
import functools
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from keras import tree

from bnzoo.config.data import CHANNELS, Data
from bnzoo.data import preprocessing
from bnzoo.data.randomness import stratified_split
from bnzoo.errors import InputError

CHUNK = 1024  # images prepared at a time: large enough to be quick, small enough for memory

DIGITS_TEST_SHARE = 0.2
"""The digits are published without a test split; this one is ours, drawn once for every seed."""

_MAX_INTENSITY = 16  # each value of the digits counts the dark pixels of a 4 x 4 block of the scan

Finish = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Prepare = Callable[[tf.Tensor], tf.Tensor]


def _as_they_are(features: tf.Tensor) -> tf.Tensor:
    return features


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayExamples:
    """Examples in memory, or the paths of their files.

    Attributes:
        features: uint8 or float32 tensor of shape (n, ...), or string tensor of shape (n,) with
            the paths of image files; on the CPU. Of a function of the user's own, any tensors.
        labels: int32 array of shape (n,); of a function of the user's own, any tensors.
        prepare: applied to each gathered batch of features: decodes files, or resizes images that
            would not fit into memory all at once.
    """

    features: tf.Tensor
    labels: np.ndarray
    prepare: Prepare = _as_they_are

    def batches(
        self, subset: np.ndarray, key: tf.Tensor | None, batch_size: int, finish: Finish
    ) -> tf.data.Dataset:
        """Present a subset in batches; whole batches are gathered at once."""
        order = tf.constant(subset, tf.int64)
        labels = tree.map_structure(tf.constant, self.labels)
        if key is not None:
            order = tf.random.experimental.stateless_shuffle(order, seed=key)

        def gather(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            indices = order[batch * batch_size : (batch + 1) * batch_size]
            features, chosen = tree.map_structure(
                lambda part: tf.gather(part, indices), (self.features, labels)
            )
            return finish(self.prepare(features), chosen, indices)

        num_batches = -(-len(subset) // batch_size)
        return tf.data.Dataset.range(num_batches).map(gather, num_parallel_calls=tf.data.AUTOTUNE)

    def contents(self) -> bytes:
        """Return every value; of files class, name and size."""
        values = self.features.numpy()
        if self.features.dtype != tf.string:
            return values.data
        paths = [Path(os.fsdecode(path)) for path in values]
        parts = [f"{path.parent.name}/{path.name} {path.stat().st_size}" for path in paths]
        return "".join(parts).encode()


@dataclasses.dataclass(frozen=True, eq=False)
class StreamExamples:
    """Encoded records read one after the other, for sets that fit into memory in no other way.

    Attributes:
        records: data set of (bytes, label), always in the same order.
        labels: int32 array of shape (n,), in that order.
        prepare: maps the bytes of one image to its uint8 pixels.
        buffer_size: records among which the next one is drawn when shuffling. The order is random
            only within such a window, unlike that of the other form.
    """

    records: tf.data.Dataset
    labels: np.ndarray
    prepare: Prepare
    buffer_size: int

    def batches(
        self, subset: np.ndarray, key: tf.Tensor | None, batch_size: int, finish: Finish
    ) -> tf.data.Dataset:
        """Present a subset in batches; images are decoded in parallel, after shuffling."""
        is_member = tf.constant(np.isin(np.arange(len(self.labels)), subset))
        dataset = self.records.enumerate().filter(lambda index, _: is_member[index])
        if key is not None:
            dataset = _shuffle_records(dataset, self.buffer_size, key)
        dataset = dataset.map(
            lambda index, record: (self.prepare(record[0]), record[1], index), tf.data.AUTOTUNE
        )
        return dataset.batch(batch_size).map(finish)

    def contents(self) -> bytes:
        """Return nothing: reading all records would take as long as an epoch."""
        return b""


Examples = ArrayExamples | StreamExamples
"""Labelled examples of one split."""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A data set before it is split and batched.

    Attributes:
        train: examples to learn from.
        test: examples to test with.
        class_names: one name for each label, in order.
        example_shape: shape of one example as `Examples.batches` presents it.
        is_image: whether that is (height, width, channels) of an image.
        scale: factor from its values to model inputs.
        skipped: files left out because they cannot be decoded.
        reading: how float values were understood, in words; `None` where there is no doubt.
    """

    train: Examples
    test: Examples
    class_names: tuple[str, ...]
    example_shape: tuple[int, ...]
    is_image: bool = True
    scale: float = preprocessing.PIXEL_SCALE
    skipped: tuple[str, ...] = ()
    reading: str | None = None

    def fingerprint(self) -> str:
        """Return 8 hexadecimal digits that differ, almost surely, for different data.

        They cover class names, labels and, for arrays, every value; for files that are decoded
        when they are needed, class, name and size; for streamed records the labels alone.
        """
        checksum = zlib.crc32("\n".join(self.class_names).encode())
        for examples in (self.train, self.test):
            checksum = zlib.crc32(np.ascontiguousarray(examples.labels), checksum)
            checksum = zlib.crc32(examples.contents(), checksum)
        return f"{checksum:08x}"


def image_shape(
    shape: tuple[int | None, int | None, int | None], settings: Data
) -> tuple[int, int, int]:
    """Return the (height, width, channels) that raw images of this shape are brought to.

    Args:
        shape: (height, width, channels) of the raw images, `None` where they differ.
        settings: gives `image_size` and `color_mode`.

    Raises:
        InputError: if sizes differ and no `image_size` says what to do, or if channels cannot be
            converted.
    """
    image = (*(settings.image_size or shape[:2]), CHANNELS.get(settings.color_mode, shape[2]))
    if None in image:
        raise InputError(
            f"The images of {settings.name} differ in size or channels; all must be equal. Set "
            "data.image_size, for example [64, 64], to resize them, and data.color_mode: grayscale "
            "or rgb to convert them."
        )
    if settings.color_mode != "auto" and shape[2] not in (1, 3, None):
        raise InputError(
            f"The images of {settings.name} have {shape[2]} channels; color_mode: "
            f"{settings.color_mode} needs 1 or 3. Leave it at auto to keep them as they are."
        )
    return image


def array_examples(
    images: np.ndarray, labels: np.ndarray, shape: tuple[int, int, int], memory_limit: int
) -> ArrayExamples:
    """Hold images in memory, resized and converted beforehand unless that would take too much.

    Args:
        images: uint8 array of shape (n, height, width, channels), or any that has the shape.
        labels: int array of shape (n,).
        shape: (height, width, channels) to bring them to.
        memory_limit: bytes; images that would take more are prepared batch by batch.
    """
    labels = labels.astype(np.int32)
    if images.shape[1:] == shape:
        return ArrayExamples(to_cpu(images), labels)

    prepare = functools.partial(preprocessing.to_shape, shape=shape)
    if len(images) * int(np.prod(shape)) > memory_limit:
        return ArrayExamples(to_cpu(images), labels, prepare)
    with tf.device("CPU:0"):
        starts = range(0, len(images), CHUNK)
        chunks = [prepare(tf.constant(images[start : start + CHUNK])) for start in starts]
        return ArrayExamples(tf.concat(chunks, axis=0), labels)


def open_digits(settings: Data, memory_limit: int) -> Source:
    """Load the digits that come with scikit-learn, 1,797 images, as uint8 of shape (8, 8, 1)."""
    from sklearn.datasets import load_digits

    bundled = load_digits()
    images = np.round(bundled.images * 255 / _MAX_INTENSITY).astype(np.uint8)[..., np.newaxis]
    shape = image_shape(images.shape[1:], settings)
    train, test = (
        array_examples(images[part], bundled.target[part], shape, memory_limit)
        for part in stratified_split(bundled.target, DIGITS_TEST_SHARE, seed=0)
    )
    return Source(train, test, tuple(str(name) for name in bundled.target_names), shape)


def to_cpu(array: np.ndarray) -> tf.Tensor:
    """Copy an array into a tensor in main memory, also where there is a GPU."""
    with tf.device("CPU:0"):
        return tf.constant(array)


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
