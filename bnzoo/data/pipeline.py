"""From examples to the batches of one epoch after the other."""

import threading
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from bnzoo.data.augment import draw_flip_crop, flip_crop
from bnzoo.data.examples import Examples, Finish
from bnzoo.data.preprocessing import pad_steps, scale, to_layout
from bnzoo.data.randomness import Purpose, stream_key, uniform_integers

MakeFinish = Callable[[tf.Tensor | int], Finish]


class EpochCounter:
    """The number of the epoch that the next iteration will present; thread-safe.

    It lives in Python and not in a `tf.Variable`, which a distribution strategy would replicate
    if the data were loaded inside its scope.
    """

    def __init__(self):
        self._next = 0
        self._lock = threading.Lock()

    def set(self, epoch: int) -> None:
        """Let the next iteration present this epoch."""
        with self._lock:
            self._next = epoch

    def take(self) -> np.int64:
        """Return the epoch to present, and move on to the one after it."""
        with self._lock:
            epoch = self._next
            self._next += 1
        return np.int64(epoch)


def shuffled_batches(
    examples: Examples,
    subset: np.ndarray,
    batch_size: int,
    seed: int,
    counter: EpochCounter,
    make_finish: MakeFinish,
) -> tf.data.Dataset:
    """Present a subset in a new order each time the data set is iterated.

    The counter is read when the first batch is asked for and not when the iterator is made: Keras
    makes an iterator at the end of each epoch and throws it away.

    Args:
        examples: of which split.
        subset: int64 array of the examples to present.
        batch_size: examples per batch.
        seed: with the number of the epoch, all that the order depends on.
        counter: says which epoch it is.
        make_finish: makes the function that finishes the batches of an epoch.
    """

    def read_epoch(_: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(counter.take, [], tf.int64), ())

    @tf.autograph.experimental.do_not_convert  # nothing in it needs converting; TFDS cannot be
    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        key = stream_key(seed, epoch, Purpose.ORDER)
        return examples.batches(subset, key, batch_size, make_finish(epoch))

    dataset = tf.data.Dataset.range(1).map(read_epoch).flat_map(one_epoch)
    return _with_length(dataset, len(subset), batch_size)


def ordered_batches(
    examples: Examples, subset: np.ndarray, batch_size: int, finish: Finish
) -> tf.data.Dataset:
    """Present a subset in its own order, every time."""
    return _with_length(examples.batches(subset, None, batch_size, finish), len(subset), batch_size)


def _with_length(dataset: tf.data.Dataset, num_examples: int, batch_size: int) -> tf.data.Dataset:
    num_batches = -(-num_examples // batch_size)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
    return dataset.prefetch(tf.data.AUTOTUNE)


def finisher(
    shape: tuple[int, ...],
    layout: str,
    draws: tf.Tensor | None = None,
    lengths: tf.Tensor | None = None,
) -> Finish:
    """Return the function that turns a batch of raw examples into (x, y).

    Args:
        shape: of one raw example.
        layout: see `Preprocessing`.
        draws: int32 tensor of shape (n, 3) from `draw_flip_crop`, or `None` to leave images alone.
        lengths: int32 tensor of shape (n,): steps that each example keeps, or `None` for all.
    """

    def finish(
        raw: tf.Tensor, labels: tf.Tensor, indices: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        raw = tf.ensure_shape(raw, (None, *shape))
        if draws is not None:
            raw = flip_crop(raw, tf.gather(draws, indices))
        inputs = to_layout(scale(raw), layout)
        if lengths is not None:
            inputs = pad_steps(inputs, tf.gather(lengths, indices))
        return inputs, labels

    return finish


def draw_augmentation(seed: int, epoch: tf.Tensor | int, num_examples: int) -> tf.Tensor:
    """Draw for each example of this epoch what `flip_crop` does to it."""
    return draw_flip_crop(stream_key(seed, epoch, Purpose.AUGMENT), num_examples)


def draw_lengths(
    seed: int,
    epoch: tf.Tensor | int,
    purpose: Purpose,
    num_examples: int,
    bounds: tuple[int, int],
) -> tf.Tensor:
    """Draw for each example how many steps it keeps, as int32 of shape (num_examples,).

    Args:
        seed: of the run.
        epoch: number of the epoch; 0 for splits that are always presented alike.
        purpose: which split the lengths are for.
        num_examples: of that split.
        bounds: smallest and largest number of steps, both possible.
    """
    low, high = bounds
    key = stream_key(seed, epoch, purpose)
    return uniform_integers(key, (num_examples,), low, high + 1)
