"""How moving statistics follow the batches: pure update formulas."""

from typing import NamedTuple

from keras import ops

from bnzoo.ops.shapes import statistics_dtype


def moving_average(average, value, share):
    """Return `average + (value - average) * share`.

    Args:
        average: float tensor of shape (channels,), the old average.
        value: tensor of the same shape, this batch's value.
        share: how much of the way to go, in [0, 1]: 1 - momentum.

    Returns:
        Tensor of shape (channels,).

    Example:
        >>> moving_average(1.0, 3.0, 0.25)
        1.5
    """
    # From the nearer end: from the farther one, what is left of it would be its rounding.
    if isinstance(share, float):
        near = share > 0.5
        return (
            value - (value - average) * (1 - share) if near else average + (value - average) * share
        )
    up, down = average + (value - average) * share, value - (value - average) * (1 - share)
    return ops.where(share > 0.5, down, up)


def cumulative_share(count, num_batches):
    """Say how much of a batch enters an average in which every batch weighs the same.

    So does `torch.nn.BatchNorm2d(momentum=None)`.

    Args:
        count: samples of the batch, at least 0, of shape () or (channels,); a batch without any
            does not count as one.
        num_batches: float tensor of shape (): batches counted so far.

    Returns:
        `1 / (num_batches + 1)`; and num_batches with this one.

    Example:
        >>> share, num_batches = cumulative_share(ops.array(8.0), ops.array(3.0))
        >>> float(share), float(num_batches)
        (0.25, 4.0)
    """
    num_batches = ops.cast(num_batches, count.dtype)
    return 1.0 / (num_batches + 1), num_batches + ops.max(ops.minimum(count, ops.ones_like(count)))


def move(weight, value, share, average=None):
    """Move a Keras variable towards a value, and return where it is now.

    Args:
        weight: float variable of shape (channels,).
        value: tensor of the same shape.
        share: a number or tensor, as in `moving_average`.
        average: what the variable holds, where it has been read already.

    Returns:
        Tensor in the wider of both dtypes, so that neither is rounded on the way.

    Example:
        >>> import keras
        >>> weight = keras.Variable([1.0])
        >>> moved = move(weight, ops.array([3.0]), 0.25)
        >>> ops.convert_to_numpy(weight).tolist()
        [1.5]
    """
    dtype = statistics_dtype(weight.dtype, value.dtype)
    average = ops.cast(weight if average is None else average, dtype)
    # A Python number stays one: made a tensor, it would be rounded to float32.
    share = share if isinstance(share, float) else ops.cast(share, dtype)
    moved = moving_average(average, ops.cast(value, dtype), share)
    weight.assign(moved)
    return moved


AS_THEY_ARE = ()  # statistics that are not usable show it in their count alone


class Usable(NamedTuple):
    """Turns statistics of a batch into those that a moving average may follow.

    Attributes:
        otherwise: mean and variance, of shape (channels,), to put for statistics that are not
            finite, or of no samples; or None: zeros; or `AS_THEY_ARE`.
        unbiased: divide the variance by n - 1.
        maybe_empty: False where it is known that every channel has samples.
    """

    otherwise: tuple | None = None
    unbiased: bool = False
    maybe_empty: bool = True

    def __call__(self, mean, variance, count):
        """Look at the statistics.

        One NaN among a channel's values makes its variance NaN, and one infinite value too. If any
        channel's is not finite, none is used; a channel without samples keeps to itself.

        Args:
            mean: float tensor of shape (channels,).
            variance: tensor of the same shape, divided by n.
            count: tensor of the same shape or ().

        Returns:
            The three, with count 0 where they are not the batch's.
        """
        good = ops.all(ops.isfinite(variance))
        if self.maybe_empty:
            good = ops.logical_and(good, count > 0)
        variance, count = self.finished(variance, count), ops.where(good, count, 0 * count)
        if self.otherwise is AS_THEY_ARE:
            return mean, variance, count
        instead = self.otherwise or (ops.zeros_like(mean), ops.zeros_like(variance))
        return ops.where(good, mean, instead[0]), ops.where(good, variance, instead[1]), count

    def finished(self, variance, count):
        """Return the variance that is asked for, without looking."""
        return unbiased_variance(variance, count) if self.unbiased else variance


def unbiased_variance(variance, count):
    """Return `variance * n / (n - 1)`, and the variance itself where n is 1 or 0.

    Args:
        variance: float tensor of shape (channels,): the mean of the centred squares.
        count: tensor n of shape (channels,), or a scalar: the samples behind it, at least 0.

    Returns:
        Tensor of shape (channels,).

    Source:
        Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.1 ("Var[x] = m / (m - 1) E[var]").
        The paper leaves m = 1 undefined.

    Example:
        >>> from keras import ops
        >>> float(unbiased_variance(ops.array(3.0), ops.array(4.0)))
        4.0
        >>> float(unbiased_variance(ops.array(3.0), ops.array(1.0)))
        3.0
    """
    count = ops.cast(count, variance.dtype)
    one = ops.ones_like(count)
    factor = count / ops.maximum(count - one, one)
    return variance * ops.where(count > one, factor, one)
