"""Count, mean and centred squares of each channel, from sums around a value near the mean."""

import math
from typing import NamedTuple

from keras import ops

from bnzoo.ops.masks import keep


class Moments(NamedTuple):
    """Statistics of a batch, and what they were taken around; all in one float dtype.

    Attributes:
        count: samples of each channel, at least 0, of shape (channels,), or (): all the same.
        mean: of shape (channels,).
        centred_squares: the sum of `(x - mean) ** 2`, of shape (channels,), at least 0.
        shift: of shape (channels,), near the mean: exactly what was subtracted from x.
        rest: `mean - shift`, with the digits that `mean` itself rounds away.
    """

    count: object
    mean: object
    centred_squares: object
    shift: object
    rest: object


def moments(laid, weights, view, around: str = "mean"):
    """Take count, mean and sum of centred squares over every position of each channel.

    With `c = x - shift`, `rest = sum(c) / n`: `mean = shift + rest` and
    `centred_squares = sum(c ** 2) - n * rest ** 2`. Never `sum(x ** 2) / n - mean ** 2`, which
    loses everything once the mean is large against the spread: here `rest` is small against it.
    Nothing depends on the shift but rounding, so no gradient flows through it.

    Args:
        laid: float32 or float64 tensor in the shape of `view`.
        weights: zeros and ones in the same shape, or 1 at the channels; or None: all count.
        view: the layout, see `bnzoo.ops.views`.
        around: the shift: `"mean"` is the plain mean, for a few thousand samples at most (the
            float32 sum of 131,072 large numbers is off by units); `"sample"` the mean of some
            positions from all over the data, itself taken around the first, which leaves one read
            for everything. With weights it is the mean around the sample's, for a mask may leave
            out every sampled position.

    Returns:
        Moments, all zero where nothing counts; and c, in the shape of `view`.

    Example:
        >>> from bnzoo.ops.views import Rows
        >>> x = ops.array([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]])
        >>> statistics, _ = moments(x, None, Rows(channels=2))
        >>> ops.convert_to_numpy(statistics.mean).tolist()
        [3.0, 5.0]
        >>> ops.convert_to_numpy(statistics.centred_squares).tolist()
        [14.0, 0.0]
    """
    count = count_positions(laid, weights, view)
    divisor = at_least_one(count)
    if around == "mean":
        shift = view.total(keep(laid, weights)) / divisor
    elif weights is None:
        first, sample = view.first(laid), view.sample(laid)
        shift = first + _mean(sample - view.spread(first), None, view)
    else:
        shift = _mean(view.sample(laid), view.sample(weights), view)
        shift = shift + view.total(keep(laid - view.spread(shift), weights)) / divisor
    shift = ops.stop_gradient(shift)
    centred = laid - view.spread(shift)
    kept = keep(centred, weights)
    total = view.total(kept)
    rest = total / divisor
    squares = view.total(ops.square(kept)) - total * rest
    # Rounding can take a constant channel below zero, whose root would be NaN without an epsilon.
    squares = ops.maximum(squares, ops.zeros_like(squares))
    return Moments(count, shift + rest, squares, shift, rest), centred


def _mean(laid, weights, view):
    return view.total(keep(laid, weights)) / at_least_one(count_positions(laid, weights, view))


def count_positions(laid, weights, view):
    """Count the samples that each channel has.

    Args:
        laid: tensor in the shape of `view`.
        weights: zeros and ones in the same shape, or 1 at the channels; or None: all count.
        view: the layout.

    Returns:
        Tensor of the dtype of `laid`, at least 0: of shape (channels,) or (1,) with weights, else
        of shape (), for all channels have the same.
    """
    if weights is not None:
        return view.total(weights)
    positions = math.prod(view.positions_of(ops.shape(laid)))
    return ops.cast(positions, laid.dtype)


def at_least_one(count):
    """Make a count fit to divide by: no samples give sums of zero, and 0 / 1 is finite."""
    return ops.maximum(count, ops.ones_like(count))
