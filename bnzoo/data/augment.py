"""Mirroring and shifting of training images, a whole batch at a time."""

import tensorflow as tf

from bnzoo.data.randomness import uniform_integers

CROP_PADDING = 4
"""Pixels of zeros on each side before the crop, as in the published CIFAR-10 recipes."""


def draw_flip_crop(key: tf.Tensor, num_examples: int) -> tf.Tensor:
    """Draw what happens to each example of an epoch.

    Returns:
        int32 tensor of shape (num_examples, 3): 1 to mirror else 0, and the top and left corner
        of the crop within the padded image, in [0, 2 * CROP_PADDING].
    """
    flips = uniform_integers(key, (num_examples, 1), 0, 2)
    corner_key = tf.random.experimental.stateless_fold_in(key, 1)
    corners = uniform_integers(corner_key, (num_examples, 2), 0, 2 * CROP_PADDING + 1)
    return tf.concat([flips, corners], axis=1)


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
