"""All that is drawn at random: validation examples, orders, lengths, mirroring and shifting.

Everything is a pure function of seed, epoch and example, and nothing is remembered. So the k-th
epoch of a resumed training is the k-th epoch of an undisturbed one, and it does not matter how
many threads prepare the batches.
"""

import enum

import numpy as np
import tensorflow as tf

CROP_PADDING = 4
"""Pixels of zeros on each side before the crop, as in the published CIFAR-10 recipes."""


class Purpose(enum.IntEnum):
    """What numbers are drawn for; each purpose has a stream of its own."""

    ORDER = 1
    AUGMENT = 2
    TRAIN_LENGTH = 3
    VALIDATION_LENGTH = 4
    TEST_LENGTH = 5


def stream_key(seed: int, epoch: int | tf.Tensor, purpose: Purpose) -> tf.Tensor:
    """Return the integer key, of shape (2,), of one stream of numbers."""
    key = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.stateless_fold_in(key, int(purpose))


def draw_lengths(key: tf.Tensor, num_examples: int, shortest: int, longest: int) -> tf.Tensor:
    """Draw how many steps each example keeps, as int32 of shape (num_examples,).

    Args:
        key: of the stream.
        num_examples: of the split.
        shortest: smallest number of steps.
        longest: largest number of steps, as possible as the others.
    """
    return _uniform_integers(key, (num_examples,), shortest, longest + 1)


def draw_flip_crop(key: tf.Tensor, num_examples: int) -> tf.Tensor:
    """Draw what `flip_crop` does to each example of an epoch.

    Returns:
        int32 tensor of shape (num_examples, 3): 1 to mirror else 0, and the top and left corner
        of the crop within the padded image, in [0, 2 * CROP_PADDING].
    """
    flips = _uniform_integers(key, (num_examples, 1), 0, 2)
    corner_key = tf.random.experimental.stateless_fold_in(key, 1)
    corners = _uniform_integers(corner_key, (num_examples, 2), 0, 2 * CROP_PADDING + 1)
    return tf.concat([flips, corners], axis=1)


def _uniform_integers(key: tf.Tensor, shape: tuple[int, ...], low: int, end: int) -> tf.Tensor:
    """Draw int32 numbers from low to end - 1, one row for each example."""
    return tf.random.stateless_uniform(shape, seed=key, minval=low, maxval=end, dtype=tf.int32)


def flip_crop(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Mirror, pad with zeros and crop back to the size, by one gather.

    Args:
        images: uint8 or float tensor of shape (batch, height, width, channels); all but the batch
            size are known.
        draws: int32 tensor of shape (batch, 3), rows of `draw_flip_crop`.

    Returns:
        tensor like `images`.
    """
    height, width, channels = images.shape[1:]
    padded_width = width + 2 * CROP_PADDING
    flips, tops, lefts = draws[:, 0:1], draws[:, 1:2], draws[:, 2:3]
    rows = tops + tf.range(height)
    columns = lefts + tf.range(width)
    # Padding is symmetric, so mirroring the padded image is reading its columns backwards.
    columns = tf.where(flips == 1, padded_width - 1 - columns, columns)
    pixels = rows[:, :, tf.newaxis] * padded_width + columns[:, tf.newaxis, :]
    margin = [CROP_PADDING, CROP_PADDING]
    padded = tf.pad(images, [[0, 0], margin, margin, [0, 0]])
    padded = tf.reshape(padded, (-1, (height + 2 * CROP_PADDING) * padded_width, channels))
    cropped = tf.gather(padded, tf.reshape(pixels, (-1, height * width)), axis=1, batch_dims=1)
    return tf.reshape(cropped, (-1, height, width, channels))


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide examples so that each class gives its share.

    The total is `round(len(labels) * fraction)` where the classes allow it; what rounding down
    leaves over goes to the classes with the largest remainders. A class never gives its last
    example away, so every class that has one keeps one.

    Args:
        labels: int array of shape (n,).
        fraction: share to hold back, in (0, 1).
        seed: decides which examples; the same seed holds back the same ones.

    Returns:
        int64 indices of the examples that stay, and of those held back, both ascending.
    """
    # Not scikit-learn's `train_test_split(stratify=...)`: it holds back other examples than the
    # runs there are, refuses classes of one example, and its draw depends on its version.
    classes, counts = np.unique(labels, return_counts=True)
    held = np.minimum(_shares(counts, fraction), counts - 1)
    generator = np.random.default_rng([seed, 0x5917])  # apart from other uses of the same seed
    is_held = np.zeros(len(labels), bool)
    for label, count in zip(classes, held, strict=True):
        members = np.flatnonzero(labels == label)
        is_held[generator.permutation(members)[:count]] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def stratified_sample(labels: np.ndarray, subset: np.ndarray, count: int) -> np.ndarray:
    """Choose some examples so that each class gives its share, by no seed.

    Each example has its place in one random order, whatever the subset, and the first of each class
    are taken: samples of two subsets that share most examples do so too.

    Args:
        labels: int array of shape (n,).
        subset: int64 indices of the examples to choose from.
        count: how many of them to choose, at most all.

    Returns:
        int64 indices of shape (count,), ascending.
    """
    classes, counts = np.unique(labels[subset], return_counts=True)
    place = np.random.default_rng(0x5A3E).permutation(len(labels))
    in_order = subset[np.argsort(place[subset])]
    taken = [
        in_order[labels[in_order] == label][:share]
        for label, share in zip(classes, _shares(counts, count / len(subset)), strict=True)
    ]
    return np.sort(np.concatenate(taken))


def _shares(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Return how many examples of each class make up a fraction of all, rounded to a whole one.

    Args:
        counts: int array of shape (classes,), examples of each.
        fraction: in (0, 1].
    """
    shares = counts * fraction
    taken = np.floor(shares).astype(np.int64)
    left_over = round(int(counts.sum()) * fraction) - int(taken.sum())
    by_remainder = np.argsort(taken - shares, kind="stable")
    taken[by_remainder[: max(left_over, 0)]] += 1
    return taken
