"""Batch renormalization: how far this batch stands from the moving statistics."""

from keras import ops


def renorm_stddev(variance, epsilon: float):
    """Return `sqrt(variance + epsilon)`, the spread that batch renormalization tracks."""
    return ops.sqrt(variance + epsilon)


def renorm_corrections(mean, variance, moving_mean, moving_stddev, *, epsilon: float, clipping):
    """Take the corrections r and d, so that `x_hat * r + d` is normalised by moving statistics.

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
    r = clip(r, clipping.get("rmin"), clipping.get("rmax"))
    d = clip(d, None if dmax is None else -dmax, dmax)
    return ops.stop_gradient(r), ops.stop_gradient(d)


def clip(values, lowest, highest):
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
