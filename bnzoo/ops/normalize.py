"""The formula itself: subtract the mean, then scale, then shift."""

from keras import ops

from bnzoo.ops.shapes import along_channels


def inverse_stddev(variance, epsilon: float):
    """Return `1 / sqrt(variance + epsilon)`.

    Args:
        variance: float tensor of shape (channels,), at least 0.
        epsilon: at least 0, in the unit of the variance.

    Returns:
        Tensor of shape (channels,).
    """
    return ops.rsqrt(variance + epsilon)


def scale_and_shift(centred, scale, beta, axis: int):
    """Return `centred * scale + beta`, channel by channel.

    Args:
        centred: float tensor of shape (batch, ..., channels, ...).
        scale: tensor of shape (channels,), or None: 1.
        beta: tensor of shape (channels,), or None: 0.
        axis: the channel axis, in [-ndim, ndim).

    Returns:
        Tensor of the shape of `centred`.
    """
    if scale is not None:
        centred = centred * along_channels(scale, centred.ndim, axis)
    return centred if beta is None else centred + along_channels(beta, centred.ndim, axis)


def normalize(inputs, mean, variance, gamma, beta, *, epsilon: float, axis: int):
    """Return `(x - mean) * (gamma * rsqrt(variance + epsilon)) + beta`.

    With the moving statistics this is inference; with the batch's own it is training. The mean
    goes first: `x * scale + (beta - mean * scale)` subtracts two large numbers at the end
    (https://github.com/tensorflow/tensorflow/issues/117318).

    Args:
        inputs: float tensor of shape (batch, ..., channels, ...).
        mean: float tensor of shape (channels,).
        variance: float tensor of shape (channels,), at least 0.
        gamma: float tensor of shape (channels,), or None: 1.
        beta: float tensor of shape (channels,), or None: 0.
        epsilon: at least 0; keeps the root away from zero.
        axis: the channel axis, in [-ndim, ndim).

    Returns:
        Tensor of the shape and dtype of `inputs`; all tensors must share one dtype.

    Source:
        Ioffe and Szegedy 2015, arXiv 1502.03167, Algorithm 1 (training) and Algorithm 2, line 11
        (inference).

    Example:
        >>> from keras import ops
        >>> x, mean, variance = ops.array([[3.0], [7.0]]), ops.array([5.0]), ops.array([4.0])
        >>> y = normalize(x, mean, variance, None, None, epsilon=0.0, axis=-1)
        >>> ops.convert_to_numpy(y).ravel().tolist()
        [-1.0, 1.0]
    """
    scale = inverse_stddev(variance, epsilon)
    scale = scale if gamma is None else gamma * scale
    centred = inputs - along_channels(mean, inputs.ndim, axis)
    return scale_and_shift(centred, scale, beta, axis)
