"""Batch normalization of a training batch, with its gradient written out once."""

from typing import NamedTuple

from keras import ops

from bnzoo.ops.masks import keep, mask_weights, without_masked_nan
from bnzoo.ops.moments import at_least_one, moments
from bnzoo.ops.normalize import inverse_stddev, normalize
from bnzoo.ops.shapes import along_channels, reduction_axes, statistics_dtype
from bnzoo.ops.synchronize import merge_replicas, sum_over_replicas


class Residuals(NamedTuple):
    """What the forward pass leaves for the backward pass."""

    inputs: object  # (batch, ..., channels, ...), in the dtype they came in: no float32 copy waits
    gamma: object  # (channels,) or None
    weights: object  # zeros and ones, of the shape of the inputs or 1 at the channel axis; or None
    count: object  # (channels,)
    mean: object  # (channels,)
    variance: object  # (channels,)


def batch_norm_forward(
    inputs, gamma=None, beta=None, weights=None, *, axis, epsilon, synchronized, dtype
):
    """Normalise a batch by its own statistics.

    Args:
        inputs: float tensor of shape (batch, ..., channels, ...).
        gamma: tensor of shape (channels,) in the statistics' dtype, or None: 1.
        beta: tensor of shape (channels,) in the statistics' dtype, or None: 0.
        weights: zeros and ones, the shape of `inputs` or 1 at `axis`; or None: all count.
        axis: the channel axis, in [-ndim, ndim).
        epsilon: added to the variance, at least 0.
        synchronized: take the statistics over all replicas of a strategy.
        dtype: dtype of the outputs.

    Returns:
        (outputs, mean, variance, count), and the residuals. The variance is divided by n.
    """
    values = ops.cast(inputs, statistics_dtype(inputs.dtype))
    count, mean, centred_squares = moments(values, weights, axis)
    if synchronized:
        count, mean, centred_squares = merge_replicas(count, mean, centred_squares)
    variance = centred_squares / at_least_one(count)
    outputs = normalize(values, mean, variance, gamma, beta, epsilon=epsilon, axis=axis)
    residuals = Residuals(inputs, gamma, weights, count, mean, variance)
    return (ops.cast(outputs, dtype), mean, variance, count), residuals


def batch_norm_backward(
    residuals, d_outputs, d_mean, d_variance, _d_count, *, axis, epsilon, synchronized
):
    """Turn gradients of every output into gradients of every argument.

    With `c = x - mean`, `i = rsqrt(variance + epsilon)` and n samples a channel:

        d_beta = sum(dy)
        d_gamma = sum(dy * c) * i
        total_d_mean = d_mean - gamma * i * sum(dy)
        total_d_variance = d_variance - gamma * i ** 3 * sum(dy * c) / 2
        dx = dy * gamma * i + (total_d_mean + 2 * c * total_d_variance) / n

    where the last term belongs to the samples that counted in the statistics. The mean's part
    in the variance has no gradient, for `sum(c)` is zero. Replicas add up both totals; d_gamma and
    d_beta stay local, for the optimizer adds those up.

    The residuals are the forward pass' own tensors, so each of these lines can be differentiated
    again through them.

    Args:
        residuals: what `batch_norm_forward` left.
        d_outputs: tensor of the shape and dtype of the outputs.
        d_mean: tensor of shape (channels,).
        d_variance: tensor of shape (channels,).
        _d_count: ignored: a number of samples does not depend on their values.
        axis: the channel axis, in [-ndim, ndim).
        epsilon: added to the variance, at least 0.
        synchronized: the statistics were taken over all replicas of a strategy.

    Returns:
        dict of the gradients of `inputs`, `gamma`, `beta` and `weights`.
    """
    inputs, gamma, weights, count, mean, variance = residuals
    ndim, axes = inputs.ndim, reduction_axes(inputs.ndim, axis)
    upstream = ops.cast(d_outputs, mean.dtype)
    centred = ops.cast(inputs, mean.dtype) - along_channels(mean, ndim, axis)
    inverse = inverse_stddev(variance, epsilon)
    scale = inverse if gamma is None else gamma * inverse

    d_beta = ops.sum(upstream, axes)
    projected = ops.sum(upstream * centred, axes)
    totals = ops.stack(
        [d_mean - scale * d_beta, d_variance - scale * ops.square(inverse) * projected / 2]
    )
    totals = (sum_over_replicas(totals) if synchronized else totals) / at_least_one(count)
    through_mean = along_channels(totals[0], ndim, axis)
    through_variance = centred * along_channels(2 * totals[1], ndim, axis)
    d_inputs = upstream * along_channels(scale, ndim, axis)
    d_inputs = d_inputs + keep(through_mean + through_variance, weights)
    return {
        "inputs": ops.cast(d_inputs, inputs.dtype),
        "gamma": projected * inverse,
        "beta": d_beta,
        "weights": None if weights is None else ops.zeros_like(weights),
    }


def batch_norm(inputs, gamma, beta, mask, *, axis, epsilon, synchronized, dtype):
    """Normalise a batch by its own statistics; differentiable as often as one likes.

    Args:
        inputs: float tensor of shape (batch, ..., channels, ...).
        gamma: tensor of shape (channels,), or None: 1.
        beta: tensor of shape (channels,), or None: 0.
        mask: bool tensor with as many dimensions as `inputs`, each equal or 1; or None. False keeps
            a sample out of the statistics; its output is still normalised, and where it is NaN or
            infinite it is taken as 0.
        axis: the channel axis, in [-ndim, ndim).
        epsilon: added to the variance, at least 0.
        synchronized: take the statistics over all replicas of a strategy.
        dtype: dtype of the outputs.

    Returns:
        outputs, of the shape of `inputs` and of `dtype`; mean, variance (divided by n) and count n,
        each of shape (channels,), float64 for float64 inputs, else float32. A channel without
        samples has zeros.

    Source:
        Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.1, Algorithm 1, and the gradients
        below it.

    Example:
        >>> from keras import ops
        >>> x = ops.array([[1.0], [3.0]])
        >>> options = {"axis": -1, "epsilon": 0.0, "synchronized": False, "dtype": "float32"}
        >>> outputs, mean, variance, count = batch_norm(x, None, None, None, **options)
        >>> ops.convert_to_numpy(outputs).ravel().tolist(), float(count[0])
        ([-1.0, 1.0], 2.0)
    """
    statistics = statistics_dtype(inputs.dtype)
    options = {"axis": axis, "epsilon": epsilon, "synchronized": synchronized}
    weights = None if mask is None else mask_weights(mask, inputs, axis, statistics)
    inputs = without_masked_nan(inputs, weights)
    optional = {"gamma": gamma, "beta": beta, "weights": weights}
    given = {
        name: ops.cast(tensor, statistics)
        for name, tensor in optional.items()
        if tensor is not None
    }

    @ops.custom_gradient
    def joined(inputs, *tensors):
        arguments = dict(zip(given, tensors, strict=True))
        outputs, residuals = batch_norm_forward(inputs, **arguments, **options, dtype=dtype)

        def gradient(*upstream):
            # TensorFlow hands over one argument per output, JAX one tuple.
            upstream = upstream[0] if len(upstream) == 1 else upstream
            gradients = batch_norm_backward(residuals, *upstream, **options)
            return tuple(gradients[name] for name in ("inputs", *given))

        return outputs, gradient

    return joined(inputs, *given.values())
