"""Random numbers that are a pure function of seed, epoch and example: nothing is remembered.

So the k-th epoch of a resumed training is the k-th epoch of an undisturbed one, and it does not
matter how many threads prepare the batches.
"""

import enum

import tensorflow as tf


class Purpose(enum.IntEnum):
    """What numbers are drawn for; each purpose has a stream of its own."""

    ORDER = 1
    AUGMENT = 2
    LENGTH = 3
    VALIDATION_LENGTH = 4
    TEST_LENGTH = 5


def stream_key(seed: int, epoch: int | tf.Tensor, purpose: Purpose) -> tf.Tensor:
    """Return the integer key, of shape (2,), of one stream of numbers."""
    key = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.stateless_fold_in(key, int(purpose))


def shuffled(indices: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Return the int64 indices, of shape (n,), in a random order."""
    return tf.random.experimental.stateless_shuffle(indices, seed=key)


def uniform_integers(key: tf.Tensor, shape: tuple[int, ...], low: int, high: int) -> tf.Tensor:
    """Draw int32 numbers of this shape from low to high - 1, one row for each example."""
    return tf.random.stateless_uniform(shape, seed=key, minval=low, maxval=high, dtype=tf.int32)
