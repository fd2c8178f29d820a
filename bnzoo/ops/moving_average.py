"""How moving statistics follow the batches: pure update formulas."""

from keras import ops


def moving_average(average, value, momentum: float):
    """Return `average * momentum + value * (1 - momentum)`.

    Args:
        average: float tensor of shape (channels,), the old average.
        value: tensor of the same shape, this batch's value.
        momentum: share of the old average that is kept, in [0, 1].

    Returns:
        Tensor of shape (channels,).

    Example:
        >>> moving_average(1.0, 3.0, 0.75)
        1.5
    """
    return average * momentum + value * (1.0 - momentum)


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
