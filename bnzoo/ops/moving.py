"""Moving statistics and the corrections of batch renormalization: pure update formulas."""

from keras import ops


def moving_average(average, value, update_rate):
    """Return `average + (value - average) * update_rate`.

    Args:
        average: float tensor of shape (channels,), the old average.
        value: tensor of the same shape, this batch's value.
        update_rate: how much of the way to go, in [0, 1]: 1 - momentum.

    Returns:
        Tensor of shape (channels,).

    Example:
        >>> moving_average(1.0, 3.0, 0.25)
        1.5
    """
    difference = value - average
    # From the nearer end: from the farther one, what is left of it would be its rounding.
    up, down = average + difference * update_rate, value - difference * (1 - update_rate)
    if isinstance(update_rate, float):
        return down if update_rate > 0.5 else up
    return ops.where(update_rate > 0.5, down, up)


def cumulative_rate(valid, num_batches):
    """Return the update rate of an average in which every batch weighs the same.

    So does `torch.nn.BatchNorm2d(momentum=None)`.

    Args:
        valid: bool tensor of shape () or (channels,): the batch has statistics. One that has none
            in any channel does not count.
        num_batches: float tensor of shape (): batches counted so far.

    Returns:
        `1 / (num_batches + 1)`; and num_batches with this one.

    Example:
        >>> rate, num_batches = cumulative_rate(ops.array(True), ops.array(3.0))
        >>> float(rate), float(num_batches)
        (0.25, 4.0)
    """
    return 1.0 / (num_batches + 1), num_batches + ops.cast(ops.any(valid), num_batches.dtype)


def has_statistics(variance, count):
    """Tell whether moving statistics may follow a batch.

    One NaN among a channel's values makes its variance NaN, and one infinite value too. If any
    channel's is not finite, none is used; a channel without samples keeps to itself.

    Args:
        variance: float tensor of shape (channels,).
        count: tensor of the same shape or ().

    Returns:
        bool tensor of the shape of `count`.
    """
    return ops.logical_and(ops.all(ops.isfinite(variance)), count > 0)


def renorm_stddev(variance, epsilon: float):
    """Return `sqrt(variance + epsilon)`, the spread that batch renormalization tracks."""
    return ops.sqrt(variance + epsilon)


def renorm_corrections(mean, variance, moving_mean, moving_stddev, *, epsilon: float, clipping):
    """Take the corrections r and d, so that `x_hat * r + d` is normalized by moving statistics.

    `r = clip(stddev / moving_stddev, rmin, rmax)` and
    `d = clip((mean - moving_mean) / moving_stddev, -dmax, dmax)` with
    `stddev = sqrt(variance + epsilon)`. No gradient flows through either.

    Args:
        mean: float tensor of shape (channels,), of this batch.
        variance: float tensor of shape (channels,), of this batch, divided by n.
        moving_mean: float tensor of shape (channels,).
        moving_stddev: float tensor of shape (channels,); values below `sqrt(epsilon)` count as
            that, which keeps a moving average that is still zero out of the divisor.
        epsilon: at least 0.
        clipping: dict with any of the keys `"rmin"`, `"rmax"`, `"dmax"`; one that is missing or
            None does not clip.

    Returns:
        r and d, each of shape (channels,).

    Source:
        Ioffe 2017, arXiv 1702.03275, Algorithm 1. The bounds below r are Keras': the paper clips
        r to [1 / rmax, rmax].
    """
    floor = ops.sqrt(ops.cast(epsilon, moving_stddev.dtype))
    divisor = ops.maximum(moving_stddev, floor)
    r = renorm_stddev(variance, epsilon) / divisor
    d = (mean - moving_mean) / divisor
    dmax = clipping.get("dmax")
    r = _clip(r, clipping.get("rmin"), clipping.get("rmax"))
    d = _clip(d, None if dmax is None else -dmax, dmax)
    return ops.stop_gradient(r), ops.stop_gradient(d)


def _clip(values, lowest, highest):
    """Keep values within two bounds, either of which may be None."""
    if lowest is not None:
        values = ops.maximum(values, lowest)
    return values if highest is None else ops.minimum(values, highest)


def renorm_moving_variance(moving_stddev, *, epsilon: float):
    """Derive the variance that inference uses from the averaged spread.

    Args:
        moving_stddev: float tensor of shape (channels,), the average of
            `sqrt(variance + epsilon)`.
        epsilon: at least 0.

    Returns:
        `max(moving_stddev ** 2 - epsilon, 0)`; rounding can take the difference below zero.
    """
    return ops.relu(ops.square(moving_stddev) - epsilon)
