"""Image classification sets that TFDS has prepared: in memory when small, streamed when large."""

import contextlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from bnzoo.config.data import Data
from bnzoo.data import preprocessing
from bnzoo.data.classification import check_classification, check_splits
from bnzoo.data.examples import ArrayExamples, Examples, Prepare, StreamExamples, to_cpu
from bnzoo.data.preparation import prepared_builder
from bnzoo.data.source import Source, image_shape
from bnzoo.errors import InputError

READ_BATCH = 512  # images copied into memory at a time

WINDOW_BYTES = 2**28
"""Encoded bytes that the shuffle window of a streamed set may take: 256 MiB."""

MIN_WINDOW, MAX_WINDOW = 1_000, 10_000  # records; larger windows mix better and fill slower


def open_tfds(name: str, settings: Data, memory_limit: int) -> Source:
    """Open the train and test splits of a TFDS data set.

    Args:
        name: as TFDS knows it.
        settings: gives image size and colour mode.
        memory_limit: bytes of decoded images up to which the set is kept in memory.
    """
    builder = prepared_builder(name)
    check_splits(builder, name)
    image_key, label_key = check_classification(builder, name)
    image, label = builder.info.features[image_key], builder.info.features[label_key]
    shape = image_shape(_decoded_shape(image.shape), settings)
    num_examples = sum(builder.info.splits[split].num_examples for split in ("train", "test"))
    in_memory = num_examples * int(np.prod(shape)) <= memory_limit
    read = _read_arrays if in_memory else _open_stream
    try:
        train, test = (
            read(_Records(builder, split, image_key, label_key), shape)
            for split in ("train", "test")
        )
    except tf.errors.OpError as error:
        raise InputError(
            f"The prepared files of {name} in {builder.data_path} cannot be read "
            f"({error.message.splitlines()[0]}). Delete that folder, so that it is prepared anew."
        ) from error
    return Source(train, test, tuple(label.names), shape)


class _Records:
    """The encoded images and labels of one split, always in the same order."""

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, image_key: str, label_key: str
    ):
        self.builder, self.split = builder, split
        self.keys = image_key, label_key
        self.shape = builder.info.features[image_key].shape
        self.num_examples = builder.info.splits[split].num_examples
        self.num_bytes = builder.info.splits[split].num_bytes

    def __call__(self, prepare: Prepare = tf.identity) -> tf.data.Dataset:
        """Return the data set of (prepared image, int32 label)."""
        image_key, label_key = self.keys
        only_these = tfds.decode.PartialDecoding(
            {image_key: True, label_key: True}, decoders={image_key: tfds.decode.SkipDecoding()}
        )
        read_config = tfds.ReadConfig(try_autocache=False, skip_prefetch=True)
        with _without_warnings():
            dataset = self.builder.as_dataset(
                split=self.split, decoders=only_these, shuffle_files=False, read_config=read_config
            )
        return dataset.map(
            lambda example: (prepare(example[image_key]), tf.cast(example[label_key], tf.int32)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence TFDS, which warns of its own use of an attribute that it deprecates (4.9.10)."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _read_arrays(records: _Records, shape: tuple[int, int, int]) -> Examples:
    dataset = records(_decode_to(records.shape, shape)).batch(READ_BATCH).prefetch(1)
    images = np.empty((records.num_examples, *shape), np.uint8)
    labels = np.empty(records.num_examples, np.int32)
    start = 0
    for batch, batch_labels in dataset.as_numpy_iterator():
        images[start : start + len(batch)] = batch
        labels[start : start + len(batch)] = batch_labels
        start += len(batch)
    return ArrayExamples(to_cpu(images), labels)


def _open_stream(records: _Records, shape: tuple[int, int, int]) -> Examples:
    batches = records().map(lambda _, label: label).batch(READ_BATCH)
    labels = np.concatenate([np.empty(0, np.int32), *batches.as_numpy_iterator()])
    record_bytes = max(1, records.num_bytes // max(1, records.num_examples))
    window = min(MAX_WINDOW, max(MIN_WINDOW, WINDOW_BYTES // record_bytes))
    return StreamExamples(records, labels, _decode_to(records.shape, shape), window)


def _decode_to(stored: tuple[int | None, ...], shape: tuple[int, int, int]) -> Prepare:
    def prepare(contents: tf.Tensor) -> tf.Tensor:
        image = preprocessing.decode(contents, shape[2], stored)
        return preprocessing.resize(image, shape[:2])

    return prepare


def _decoded_shape(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    channels = {2: 1, 4: 3}.get(shape[2], shape[2])  # decoding drops transparency
    return (*shape[:2], channels)
