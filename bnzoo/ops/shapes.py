"""Which axes are reduced, and how a value per channel meets a tensor."""

import keras
from keras import ops


def reduction_axes(ndim: int, axis: int) -> tuple[int, ...]:
    """Name every axis but the channel axis.

    Args:
        ndim: number of dimensions of the tensor, at least 1.
        axis: the channel axis, in [-ndim, ndim).

    Returns:
        The other axes in rising order, all non-negative.

    Example:
        >>> reduction_axes(4, -1)
        (0, 1, 2)
        >>> reduction_axes(3, 1)
        (0, 2)
    """
    return tuple(position for position in range(ndim) if position != axis % ndim)


def along_channels(values, ndim: int, axis: int):
    """Reshape one value per channel so that it broadcasts against a tensor.

    Args:
        values: tensor of shape (channels,).
        ndim: number of dimensions of the tensor it will meet.
        axis: the channel axis of that tensor, in [-ndim, ndim).

    Returns:
        Tensor of shape (1, ..., channels, ..., 1), `ndim` dimensions.

    Example:
        >>> along_channels(keras.ops.ones((5,)), 4, 1).shape == (1, 5, 1, 1)
        True
    """
    shape = [1] * ndim
    shape[axis] = -1
    return ops.reshape(values, shape)


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


def cast_if_given(tensor, dtype):
    """Cast a tensor or a variable, and pass None on: a parameter that does not exist."""
    return None if tensor is None else ops.cast(tensor, dtype)
