"""The entry point: masks, ghost batches, then the kernel that suits the call; and inference."""

from functools import cache

from keras import ops

from bnzoo.ops.fused import fused_batch_norm, fused_infer
from bnzoo.ops.kernels import Settings, as_function, choose_kernel, describe, infers_fused
from bnzoo.ops.layouts import along_channels, choose_layout
from bnzoo.ops.plain import plain_batch_norm
from bnzoo.ops.statistics import at_least_one, statistics_dtype, unbiased_variance


def batch_norm(inputs, gamma, beta, mask, settings: Settings, ghosts: bool = False):
    """Normalize a batch by its own statistics.

    Args:
        inputs: float tensor of shape (batch, ..., channels, ...); with ghosts, of shape
            (ghosts, batch, ..., channels, ...).
        gamma: tensor of shape (channels,), or None: 1.
        beta: tensor of shape (channels,), or None: 0.
        mask: bool tensor with as many dimensions as `inputs`, each equal or 1; or None. False keeps
            a sample out of the statistics; its output is still normalized, and where it is NaN or
            infinite it is taken as 0.
        settings: what the layer wants; with ghosts its axis counts theirs too, and it has no
            virtual batch size.
        ghosts: take statistics for each entry of the first axis.

    Returns:
        outputs, of the shape of `inputs` and of the settings' dtype; mean and variance (divided by
        n, or n - 1 if unbiased) of shape (channels,), or (ghosts, channels); and count n, of a
        shape that broadcasts to theirs, 0 where nothing counts; the three in float64 for float64
        inputs, else in float32. Of a virtual batch size they are the means over ghosts, weighted by
        count. Gradients flow through all but the count; where the kernel is fused, through the
        outputs alone.

    Raises:
        ValueError: the settings force the fused kernel upon inputs that it cannot take.

    Source:
        Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.1, Algorithm 1. Ghost batches: Hoffer,
        Hubara and Soudry 2017, arXiv 1705.08741, Algorithm 1, whose moving averages take a step per
        ghost instead.

    Example:
        >>> x = ops.array([[0.0, 2.0], [4.0, 2.0]])
        >>> settings = Settings(epsilon=0.0001, dtype="float16")
        >>> outputs, mean, variance, count = batch_norm(x, None, None, None, settings)
        >>> ops.convert_to_numpy(outputs).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
        >>> ops.convert_to_numpy(variance).tolist(), float(count)
        ([4.0, 0.0], 2.0)
    """
    if settings.virtual_batch_size is not None:
        results, axis = [], settings.axis % len(inputs.shape) + 1
        ghost_settings = settings._replace(axis=axis, virtual_batch_size=None)
        for part, kept in _ghosts(inputs, mask, settings.virtual_batch_size):
            results.append(batch_norm(part, gamma, beta, kept, ghost_settings, ghosts=True))
        return _join_ghosts(results)
    call = describe(inputs, mask is not None, settings, ghosts)
    kernel = choose_kernel(call, settings.implementation).implementation
    gamma, beta = _parameters(gamma, beta, call)
    if kernel == "fused":
        results = as_function(fused_batch_norm, call.shape)(settings, inputs, gamma, beta)
    else:
        dtype, layout = statistics_dtype(call.dtype), choose_layout(call, kernel == "xla")
        weights = None if mask is None else _mask_weights(mask, inputs, call.axis, dtype)
        given = settings, layout, inputs, gamma, beta, weights
        if call.backend == "jax":
            results = _on_jax(kernel == "xla")(*given)
        elif kernel == "xla" and not call.xla:
            results = as_function(plain_batch_norm, call.shape, jit_compile=True)(*given)
        else:
            # Of float16 and bfloat16 it would be a float32 copy, kept until the backward pass.
            keep_centered = kernel == "reference" and call.dtype == dtype
            results = plain_batch_norm(*given, keep_centered)
    outputs, mean, variance, count = results
    if settings.unbiased:
        variance = unbiased_variance(variance, count)
    return outputs, mean, variance, count


def infer(inputs, mean, variance, gamma, beta, settings: Settings):
    """Normalize by given statistics, as inference does.

    The mean is subtracted first. The shorter `x * scale + (beta - mean * scale)` is not used: where
    the mean is large, it subtracts two large numbers at the end
    (https://github.com/tensorflow/tensorflow/issues/117318).

    Args:
        inputs: float tensor of shape (batch, ..., channels, ...).
        mean: tensor of shape (channels,), as are variance, gamma and beta.
        variance: at least 0.
        gamma: or None: 1.
        beta: or None: 0.
        settings: what the layer wants.

    Returns:
        `(x - mean) * (gamma * rsqrt(variance + epsilon)) + beta`, in the shape of `inputs`.

    Source:
        Ioffe and Szegedy 2015, arXiv 1502.03167, Algorithm 2, line 11.

    Example:
        >>> x, mean, variance = ops.array([[3.0], [7.0]]), ops.array([5.0]), ops.array([4.0])
        >>> y = infer(x, mean, variance, None, None, Settings(epsilon=0.0))
        >>> ops.convert_to_numpy(y).ravel().tolist()
        [-1.0, 1.0]
    """
    call = describe(inputs, False, settings)
    dtype = statistics_dtype(call.dtype)
    mean, variance = ops.cast(mean, dtype), ops.cast(variance, dtype)
    gamma, beta = _parameters(gamma, beta, call)
    if infers_fused(call, settings.implementation):
        return fused_infer(settings, inputs, mean, variance, gamma, beta)
    centered = ops.cast(inputs, dtype) - along_channels(mean, inputs.ndim, call.axis)
    scale = gamma * ops.rsqrt(variance + settings.epsilon)
    return ops.cast(scale_and_shift(centered, scale, beta, call.axis), settings.dtype)


def scale_and_shift(values, scale, shift, axis: int):
    """Return `values * scale + shift`, channel by channel.

    Args:
        values: float tensor of shape (batch, ..., channels, ...).
        scale: tensor of shape (channels,), or None: 1.
        shift: tensor of shape (channels,), or None: 0.
        axis: the channel axis, in [-ndim, ndim).

    Returns:
        Tensor of the shape of `values`.
    """
    if scale is not None:
        values = values * along_channels(scale, values.ndim, axis)
    return values if shift is None else values + along_channels(shift, values.ndim, axis)


def _parameters(gamma, beta, call):
    """Return gamma and beta in the dtype of the statistics: ones and zeros where there are none."""
    dtype = statistics_dtype(call.dtype)
    gamma = ops.ones((call.channels,), dtype) if gamma is None else ops.cast(gamma, dtype)
    beta = ops.zeros((call.channels,), dtype) if beta is None else ops.cast(beta, dtype)
    return gamma, beta


def _ghosts(inputs, mask, size):
    """Cut a batch into ghost batches, and its mask; what is left over forms a smaller one.

    Returns:
        A list of one or two pairs: inputs of shape (ghosts, size, ...), and their mask or None.
    """
    batch, *example = ops.shape(inputs)
    whole = batch // size * size
    if mask is not None and mask.shape[0] is None:
        # It may turn out to be one for all examples.
        mask = ops.broadcast_to(mask, (batch, *ops.shape(mask)[1:]))
    parts = []
    # Where the batch is unknown, either part may turn out to be empty.
    for start, stop, shape in (
        (0, whole, (batch // size, size)),
        (whole, batch, (1, batch - whole)),
    ):
        # An empty part is left out where that is known, but for the only part of an empty batch.
        if isinstance(stop, int) and start == stop and (parts or batch):
            continue
        kept = mask
        if mask is not None and mask.shape[0] == 1:
            kept = ops.expand_dims(mask, 0)
        elif mask is not None:
            kept = ops.reshape(mask[start:stop], (*shape, *ops.shape(mask)[1:]))
        parts.append((ops.reshape(inputs[start:stop], (*shape, *example)), kept))
    return parts


def _join_ghosts(results):
    """Lay the outputs of ghost batches together, and average their statistics by count."""
    outputs, sums = [], []
    for normalized, mean, variance, count in results:
        ghosts, size, *example = ops.shape(normalized)
        outputs.append(ops.reshape(normalized, (ghosts * size, *example)))
        count = ops.broadcast_to(count, ops.shape(mean))
        sums.append(ops.sum(ops.stack([count * mean, count * variance, count]), 1))
    means, variances, count = ops.unstack(sum(sums), 3)
    divisor = at_least_one(count)
    outputs = outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, 0)
    return outputs, means / divisor, variances / divisor, count


def _mask_weights(mask, inputs, axis, dtype):
    """Make one weight per sample: 1 where it counts, 0 where not; of length 1 at the channels."""
    shape = list(ops.shape(inputs))
    if mask.shape[axis] == 1:
        shape[axis] = 1
    # Through bool, for -1 and 0.5 count once, like any other number that is not zero.
    return ops.broadcast_to(ops.cast(ops.cast(mask, "bool"), dtype), shape)


@cache
def _on_jax(compiled):
    """Return `jax_batch_norm`, compiled or not."""
    import jax

    from bnzoo.ops.plain_jax import jax_batch_norm

    return jax.jit(jax_batch_norm, static_argnums=(0, 1)) if compiled else jax_batch_norm
