"""Image classification sets that TFDS has prepared: in memory when small, streamed when large."""

import logging

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from bnzoo.config.data import Data
from bnzoo.data import preparation, preprocessing
from bnzoo.data.source import ArrayExamples, Examples, Prepare, Source, StreamExamples, image_shape
from bnzoo.errors import InputError

READ_BATCH = 512  # labels read at a time

WINDOW_BYTES = 2**28
"""Encoded bytes that the shuffle window of a streamed set may take: 256 MiB."""

MIN_WINDOW, MAX_WINDOW = 1_000, 10_000  # records; larger windows mix better and fill slower

# TFDS warns of its own use of an attribute that it deprecates (4.9.10).
logging.getLogger("absl").addFilter(
    lambda record: "`FeatureConnector.dtype` is deprecated" not in record.getMessage()
)


def open_tfds(name: str, settings: Data, memory_limit: int) -> Source:
    """Open the train and test splits of a TFDS data set.

    Args:
        name: as TFDS knows it.
        settings: gives image size and color mode.
        memory_limit: bytes of decoded images up to which the set is kept in memory.
    """
    builder = preparation.prepared_builder(name)
    if not {"train", "test"} <= set(builder.info.splits):
        raise InputError(
            f"{name} has the splits {', '.join(builder.info.splits) or 'none'}; expected train and "
            "test. Choose another set, or export it as a folder or an npz file with both."
        )
    keys = image_key, label_key = preparation.check_classification(builder, name)
    stored = builder.info.features[image_key].shape
    shape = image_shape(preparation.decoded_shape(stored), settings)

    def prepare(contents: tf.Tensor) -> tf.Tensor:
        return preprocessing.decode(contents, shape[2], stored, shape[:2])

    splits = [builder.info.splits[split] for split in ("train", "test")]
    num_bytes = sum(split.num_examples for split in splits) * int(np.prod(shape))
    try:
        train, test = (
            _examples(_records(builder, split, *keys), split, prepare, num_bytes <= memory_limit)
            for split in splits
        )
    except tf.errors.OpError as error:
        raise InputError(
            f"The prepared files of {name} in {builder.data_path} cannot be read. "
            "Delete that folder, so that it is prepared anew."
        ) from error
    return Source(train, test, tuple(builder.info.features[label_key].names), shape)


def _records(
    builder: tfds.core.DatasetBuilder, split: tfds.core.SplitInfo, image_key: str, label_key: str
) -> tf.data.Dataset:
    """Return the encoded images and int32 labels of one split, always in the same order."""
    only_these = tfds.decode.PartialDecoding(
        {image_key: True, label_key: True}, decoders={image_key: tfds.decode.SkipDecoding()}
    )
    dataset = builder.as_dataset(
        split=split.name,
        decoders=only_these,
        shuffle_files=False,
        read_config=tfds.ReadConfig(try_autocache=False, skip_prefetch=True),
    )
    return dataset.map(lambda example: (example[image_key], tf.cast(example[label_key], tf.int32)))


def _examples(
    records: tf.data.Dataset, split: tfds.core.SplitInfo, prepare: Prepare, in_memory: bool
) -> Examples:
    if in_memory:
        decoded = records.map(lambda *one: (prepare(one[0]), one[1]), tf.data.AUTOTUNE)
        with tf.device("CPU:0"):
            images, labels = decoded.batch(split.num_examples).get_single_element()
        return ArrayExamples(images, labels.numpy())
    batches = records.map(lambda _, label: label).batch(READ_BATCH)
    labels = np.concatenate(list(batches.as_numpy_iterator()))
    window = WINDOW_BYTES // max(1, split.num_bytes // split.num_examples)
    return StreamExamples(records, labels, prepare, min(MAX_WINDOW, max(MIN_WINDOW, window)))
