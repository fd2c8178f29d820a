"""Count, mean and centred squares of each channel, in two passes."""

import math

from keras import ops

from bnzoo.ops.masks import keep
from bnzoo.ops.shapes import along_channels, reduction_axes


def count_positions(inputs, weights, axis: int):
    """Count the samples that each channel has.

    Args:
        inputs: tensor of shape (batch, ..., channels, ...).
        weights: zeros and ones, the shape of `inputs` or 1 at `axis`; or None: all count.
        axis: the channel axis, in [-ndim, ndim).

    Returns:
        Tensor of shape (channels,) and of the dtype of `inputs`, at least 0.
    """
    shape = ops.shape(inputs)
    axes = reduction_axes(len(shape), axis)
    if weights is None:
        count = ops.cast(math.prod(shape[other] for other in axes), inputs.dtype)
    else:
        count = ops.sum(weights, axes)
    return ops.broadcast_to(count, (shape[axis],))


def at_least_one(count):
    """Make a count fit to divide by: no samples give sums of zero, and 0 / 1 is finite."""
    return ops.maximum(count, ops.ones_like(count))


def moments(inputs, weights, axis: int):
    """Take count, mean and sum of centred squares over every axis but one.

    `mean = rough + sum(x - rough) / n` with `rough = sum(x) / n`: a float32 sum of 131,072 large
    numbers is what fails first, and the correction sum mends it. Then
    `centred_squares = sum((x - mean) ** 2)`. Never `sum(x ** 2) / n - mean ** 2`, which loses
    everything once the mean is large against the spread.

    Args:
        inputs: float32 or float64 tensor of shape (batch, ..., channels, ...).
        weights: zeros and ones, the shape of `inputs` or 1 at `axis`; or None: all count.
        axis: the channel axis, in [-ndim, ndim).

    Returns:
        count, mean and centred_squares, each of shape (channels,) and of the dtype of `inputs`;
        all zero where nothing counts.

    Example:
        >>> from keras import ops
        >>> x = ops.array([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]])
        >>> [ops.convert_to_numpy(value).tolist() for value in moments(x, None, -1)]
        [[3.0, 3.0], [3.0, 5.0], [14.0, 0.0]]
    """
    axes, ndim = reduction_axes(inputs.ndim, axis), inputs.ndim
    count = count_positions(inputs, weights, axis)
    divisor = at_least_one(count)
    rough = ops.sum(keep(inputs, weights), axes) / divisor
    centred = keep(inputs - along_channels(rough, ndim, axis), weights)
    correction = ops.sum(centred, axes) / divisor
    # Centred twice rather than on the sum of both, which would round away the correction's digits.
    deviation = keep(centred - along_channels(correction, ndim, axis), weights)
    return count, rough + correction, ops.sum(ops.square(deviation), axes)
