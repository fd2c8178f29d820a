"""The door of the layer: each check returns the value to keep or says what is wrong with it."""

import operator
from collections.abc import Mapping

import keras

CLIPPING_KEYS = ("rmax", "rmin", "dmax")


def check_axis(axis) -> int:
    """Accept an integer, Python's or NumPy's, but no bool: `True` would mean axis 1."""
    try:
        if isinstance(axis, bool):
            raise TypeError
        return operator.index(axis)
    except TypeError:
        raise ValueError(
            f"Received axis={axis!r}, expected an integer. "
            "Name the one axis that holds the channels, such as -1 or 1."
        ) from None


def check_momentum(name: str, momentum) -> float:
    """Accept a number from 0 to 1; 1, which never moves the average, because Keras does."""
    number = _as_float(momentum)
    if number is None or not 0 <= number <= 1:
        raise ValueError(
            f"Received {name}={momentum!r}, expected a number from 0 to 1. "
            "It is the share of the old average that each step keeps: "
            "PyTorch's momentum m is 1 - m here."
        )
    return number


def check_epsilon(epsilon) -> float:
    """Accept a number that cannot make the root of the variance undefined."""
    number = _as_float(epsilon)
    if number is None or not 0 <= number < float("inf"):
        raise ValueError(
            f"Received epsilon={epsilon!r}, expected a number that is 0 or greater. "
            "It is added to the variance before the root is taken: try 0.001."
        )
    return number


def check_synchronized(synchronized) -> bool:
    """Refuse on other backends what only `tf.distribute` offers."""
    if synchronized and keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Received synchronized={synchronized!r} on the {keras.backend.backend()} backend. "
            "Argument synchronized=True is only supported with the TensorFlow backend. "
            "Leave it out, or start Python with KERAS_BACKEND=tensorflow."
        )
    return synchronized


def check_renorm_clipping(clipping) -> dict:
    """Accept None or a dict of bounds that leave room between them."""
    clipping = {} if clipping is None else clipping
    if not isinstance(clipping, Mapping) or set(clipping) - set(CLIPPING_KEYS):
        raise ValueError(
            f"Received invalid keys for `renorm_clipping` argument: {clipping!r}. "
            f"Supported values: a dict with any of the keys {list(CLIPPING_KEYS)}."
        )
    rmax, rmin, dmax = (clipping.get(key) for key in CLIPPING_KEYS)
    if rmax is not None and rmin is not None and rmax < rmin:
        raise ValueError(
            "rmax should be greater than rmin in the `renorm_clipping` argument. "
            f"Received: rmax={rmax!r}, rmin={rmin!r}. Swap them, or leave one out."
        )
    if dmax is not None and dmax < 0:
        raise ValueError(
            "dmax should be non-negative in the `renorm_clipping` argument. "
            f"Received: dmax={dmax!r}. The correction d is clipped to [-dmax, dmax]."
        )
    return dict(clipping)


def check_unbiased_renorm(unbiased_moving_variance, renorm) -> bool:
    """Refuse two definitions of the moving variance at once."""
    if unbiased_moving_variance and renorm:
        raise ValueError(
            f"Received unbiased_moving_variance={unbiased_moving_variance!r} with "
            f"renorm={renorm!r}, expected at most one of the two: batch renormalization derives "
            "the moving variance from its moving standard deviation. Leave one out."
        )
    return unbiased_moving_variance


def check_axis_in_shape(axis: int, input_shape) -> None:
    """Refuse an axis that the input does not have."""
    ndim = len(input_shape)
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"Axis {axis} is out of bounds for input shape {tuple(input_shape)}. "
            f"Received: axis={axis}, expected an integer from {-ndim} to {ndim - 1}. "
            "Choose the axis that holds the channels."
        )


def check_channels(axis: int, input_shape) -> int:
    """Refuse an input whose number of channels is not known when the weights are made."""
    check_axis_in_shape(axis, input_shape)
    channels = input_shape[axis]
    if channels is None:
        raise ValueError(
            f"Received input shape {tuple(input_shape)} with axis={axis}, expected a known number "
            "of channels at that axis: the weights have one entry per channel. "
            "Define that dimension of the input, or choose another axis."
        )
    return channels


def check_mask_shape(mask_shape, input_shape, axis: int) -> int:
    """Find the axis that a mask lacks, or refuse the mask.

    Args:
        mask_shape: tuple of integers, None where unknown.
        input_shape: tuple of integers, None where unknown.
        axis: the channel axis, in [-ndim, ndim).

    Returns:
        The channel axis where the mask fits the other axes. Else the last axis, where the mask fits
        all before that: `keras.layers.Masking` leaves out the last axis of channels-first inputs
        too, so that its mask tells channels apart.
    """
    mask_shape, input_shape = tuple(mask_shape), tuple(input_shape)
    if len(mask_shape) != len(input_shape) - 1:
        raise ValueError(
            "The mask provided should be one dimension less than the inputs. "
            f"Received: mask.shape={mask_shape}, inputs.shape={input_shape}. "
            "Leave out the channel axis, and keep every other dimension, of length 1 if need be."
        )
    for missing in (axis % len(input_shape), len(input_shape) - 1):
        if _fits(mask_shape, input_shape[:missing] + input_shape[missing + 1 :]):
            return missing
    axis = axis % len(input_shape)
    expected = input_shape[:axis] + input_shape[axis + 1 :]
    raise ValueError(
        f"Received a mask of shape {mask_shape} for inputs of shape {input_shape} with "
        f"axis={axis}, expected {expected}, where each dimension may be 1. "
        "Give the mask the inputs' shape without the channel axis."
    )


def _fits(mask_shape, positions) -> bool:
    """Tell whether a shape broadcasts to another, as far as both are known."""
    sizes = zip(mask_shape, positions, strict=True)
    return all(size in (None, 1, wanted) or wanted is None for size, wanted in sizes)


def _as_float(value) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
