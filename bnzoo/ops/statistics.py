"""Statistics of a batch: count, mean and centered squares; what a mask leaves out; merged parts."""

from typing import NamedTuple

import keras
from keras import ops


class Moments(NamedTuple):
    """Statistics of a batch, and the pivot they were taken around; all in one float dtype.

    Attributes:
        count: samples of each channel, at least 0, of a shape that broadcasts to the mean's.
        mean: of shape (channels,), or (ghosts, channels), as are the others.
        centered_squares: the sum of `(x - mean) ** 2`, at least 0.
        pivot: near the mean: exactly what was subtracted from x.
        offset: `mean - pivot`, with the digits that `mean` itself rounds away.
    """

    count: object
    mean: object
    centered_squares: object
    pivot: object
    offset: object


def moments(values, weights, layout):
    """Take count, mean and sum of centered squares over every position of each channel.

    With `c = x - pivot`, `offset = sum(c) / n`: `mean = pivot + offset` and
    `centered_squares = sum(c ** 2) - n * offset ** 2`. Never `sum(x ** 2) / n - mean ** 2`, which
    loses everything once the mean is large against the spread: here `offset` is small against it.
    Nothing depends on the pivot but rounding, so no gradient need flow through it.

    The pivot is the mean of some positions from all over the data, which leaves one read for
    everything else, or of all where they are few (the float32 sum of 131,072 large numbers is off
    by units). A mask may leave out every sampled position: the mean of all that count, taken around
    the sample's, is the pivot then.

    Args:
        values: float32 or float64 tensor in the shape of `layout`.
        weights: zeros and ones, of the shape of values or 1 at the channels; or None: all count.
        layout: a `bnzoo.ops.layouts.Layout`.

    Returns:
        Moments, all zero where nothing counts; and c, in the shape of the layout.

    Example:
        >>> from bnzoo.ops.layouts import Layout
        >>> x = ops.array([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]])
        >>> statistics, _ = moments(x, None, Layout("rows", ndim=2, axis=1, channels=2))
        >>> ops.convert_to_numpy(statistics.mean).tolist()
        [3.0, 5.0]
        >>> ops.convert_to_numpy(statistics.centered_squares).tolist()
        [14.0, 0.0]
    """
    count = _count(values, weights, layout)
    divisor = at_least_one(count)
    sampled = layout.for_sample()
    sample, kept = sampled.sample(values), sampled.sample(weights)
    # Around the first position, for the sum of a large sample far from zero is off by units itself.
    alone = weights is None and sample is not values and not layout.parts
    near = sampled.first(sample) if alone else 0.0
    around = sample - sampled.broadcast(near) if alone else sample
    pivot = sampled.reduce_sum(apply_mask(around, kept))
    pivot = near + pivot / at_least_one(_count(sample, kept, sampled))
    pivot, offset = ops.stop_gradient(pivot), None
    if weights is not None and sample is not values:
        # This pivot is the mean itself, with its gradient: nothing is left to correct.
        rest = apply_mask(values - layout.broadcast(pivot), weights)
        pivot = pivot + layout.reduce_sum(rest) / divisor
        offset = ops.zeros_like(pivot)
    centered = values - layout.broadcast(pivot)
    kept = apply_mask(centered, weights)
    squares = layout.reduce_sum(ops.square(kept))
    if offset is None:
        total = layout.reduce_sum(kept)
        offset = total / divisor
        squares = squares - total * offset
    # Rounding can take a constant channel below zero, whose root would be NaN without an epsilon.
    squares = ops.where(squares < 0, ops.zeros_like(squares), squares)
    return Moments(count, pivot + offset, squares, pivot, offset), centered


def _count(values, weights, layout):
    """Count the samples of each channel: of shape (channels,) or (1,) with weights, else ()."""
    if weights is not None:
        return ops.sum(weights, layout.reduction_axes())
    return ops.cast(layout.num_positions(values), values.dtype)


def at_least_one(count):
    """Make a count fit to divide by: no samples give sums of zero, and 0 / 1 is finite."""
    return ops.maximum(count, ops.ones_like(count))


def apply_mask(values, weights):
    """Put zero where a weight is zero.

    Args:
        values: float tensor, finite wherever a weight is zero.
        weights: tensor that broadcasts against it, of zeros and ones, or None: keep everything.

    Returns:
        Tensor of the shape and dtype of `values`.
    """
    return values if weights is None else values * weights


def finite_where_masked(values, inputs, weights):
    """Put zero in values, the inputs or their tangents, where inputs are masked and not finite.

    The output and the gradient would be NaN there otherwise, and a gradient of NaN does not stay in
    the padding: the sums of the backward pass, and every layer before, would take it up. From here
    on a product with the weights is enough to leave something out.

    Args:
        values: tensor of the shape of `inputs`.
        inputs: float tensor.
        weights: tensor that broadcasts against it, of zeros and ones, or None: return values.

    Returns:
        Tensor of the shape and dtype of `values`.
    """
    if weights is None:
        return values
    kept = ops.logical_or(ops.isfinite(inputs), weights > 0)
    return ops.where(kept, values, ops.zeros_like(values))


def merge_moments(counts, means, centered_squares):
    """Merge the moments of several parts exactly.

    `mean = sum(n_i * mean_i) / n` with a correction sum, and
    `centered_squares = sum(centered_squares_i + n_i * (mean_i - mean) ** 2)`: nothing large is
    subtracted from anything large. A part with no samples changes nothing.

    Args:
        counts: float tensor of shape (parts, channels), at least 0.
        means: float tensor of shape (parts, channels).
        centered_squares: float tensor of shape (parts, channels), at least 0.

    Returns:
        count, mean and centered_squares, each of shape (channels,).

    Source:
        Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", for any
        number of parts.

    Example:
        >>> parts = ops.array([[2.0], [1.0]]), ops.array([[1.0], [4.0]]), ops.array([[2.0], [0.0]])
        >>> [ops.convert_to_numpy(value).tolist() for value in merge_moments(*parts)]
        [[3.0], [2.0], [8.0]]
    """
    count = ops.sum(counts, 0)
    divisor = at_least_one(count)
    rough = ops.sum(counts * means, 0) / divisor
    centered = means - rough
    correction = ops.sum(counts * centered, 0) / divisor
    between = counts * ops.square(centered - correction)
    return count, rough + correction, ops.sum(centered_squares + between, 0)


def unbiased_variance(variance, count):
    """Return `variance * n / (n - 1)`, and the variance itself where n is 1 or 0.

    Args:
        variance: float tensor of shape (channels,): the mean of the centered squares.
        count: tensor n of shape (channels,), or a scalar: the samples behind it, at least 0.

    Returns:
        Tensor of shape (channels,).

    Source:
        Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.1 ("Var[x] = m / (m - 1) E[var]").
        The paper leaves m = 1 undefined.

    Example:
        >>> float(unbiased_variance(ops.array(3.0), ops.array(4.0)))
        4.0
        >>> float(unbiased_variance(ops.array(3.0), ops.array(1.0)))
        3.0
    """
    count = ops.cast(count, variance.dtype)
    one = ops.ones_like(count)
    factor = count / ops.maximum(count - one, one)
    return variance * ops.where(count > one, factor, one)


def statistics_dtype(*dtypes) -> str:
    """Name the dtype that means and variances are kept in, given what they come from.

    At least float32: a float16 sum overflows at 65504 and a bfloat16 sum stops growing after a
    few hundred terms. float64 stays float64, on JAX too, where Keras' own promotion would not let
    it.

    Args:
        *dtypes: dtypes of the tensors, as names or as the backend's dtypes.

    Returns:
        `"float64"` if any of them is that, else `"float32"`.

    Example:
        >>> statistics_dtype("bfloat16"), statistics_dtype("float32", "float64")
        ('float32', 'float64')
    """
    names = {keras.backend.standardize_dtype(dtype) for dtype in dtypes}
    return "float64" if "float64" in names else "float32"
