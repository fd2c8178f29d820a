"""The first gradients of a training batch in float64, ghost by ghost, by the published formula."""

import numpy as np

EPSILON = 1e-3


def gradients(x, upstream, gamma, counted=None, axis=-1, ghost=None):
    """Return the gradients of x, gamma and beta of `sum(upstream * outputs)`.

    Args:
        x: array of shape (batch, ..., channels, ...).
        upstream: array of the same shape.
        gamma: array of shape (channels,).
        counted: bool array that broadcasts to x, or None.
        axis: the channel axis.
        ghost: number of examples that are normalized together, or None: all.

    Returns:
        Three float64 arrays.
    """
    ghost = ghost or max(len(x), 1)
    counted = np.broadcast_to(True if counted is None else counted, x.shape)
    pieces = [
        _of_one(*(array[start : start + ghost] for array in (x, upstream, counted)), gamma, axis)
        for start in range(0, len(x), ghost)
    ]
    d_inputs, d_gamma, d_beta = zip(*pieces, strict=True)
    return np.concatenate(d_inputs), sum(d_gamma), sum(d_beta)


def _of_one(x, upstream, counted, gamma, axis):
    x, dy, weights = (
        np.moveaxis(array.astype("float64"), axis, -1) for array in (x, upstream, counted)
    )
    axes = tuple(range(x.ndim - 1))
    count = np.maximum(weights.sum(axes), 1)
    centred = x - (weights * x).sum(axes) / count
    inverse = 1 / np.sqrt((weights * centred**2).sum(axes) / count + EPSILON)
    normal = centred * inverse
    d_gamma, d_beta = (dy * normal).sum(axes), dy.sum(axes)
    through = weights * (d_beta + normal * d_gamma) / count
    d_inputs = gamma.astype("float64") * inverse * (dy - through)
    return np.moveaxis(d_inputs, -1, axis), d_gamma, d_beta
