"""Argument checks of the layers: each says what is wrong, or returns the value to keep if any."""

import numbers
from collections.abc import Mapping

import keras

from bnzoo.ops import statistics_dtype

CLIPPING_KEYS = ("rmax", "rmin", "dmax")
IMPLEMENTATIONS = ("auto", "reference", "fused", "xla")
BACKENDS = {"fused": ("tensorflow",), "xla": ("tensorflow", "jax")}


def check_axis(axis) -> int:
    """Accept a whole number, Python's or NumPy's, but no bool: `True` would mean axis 1."""
    is_number = isinstance(axis, numbers.Real) and not isinstance(axis, bool)
    if not is_number or not float(axis).is_integer():
        raise ValueError(
            f"Received axis={axis!r}, expected an integer. "
            "Name the one axis that holds the channels, such as -1 or 1."
        )
    return int(axis)


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


def check_implementation(implementation) -> str:
    """Accept a known name, where its kernels exist."""
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"Received implementation={implementation!r}, expected one of "
            f"{list(IMPLEMENTATIONS)}. Leave it out, and the layer chooses for each input."
        )
    backend = keras.backend.backend()
    backends = BACKENDS.get(implementation, (backend,))
    if backend not in backends:
        raise ValueError(
            f"Received implementation={implementation!r} on the {backend} backend, expected "
            f"'auto' or 'reference': it needs {' or '.join(backends)}. "
            "Leave it out, or start Python with KERAS_BACKEND=tensorflow."
        )
    return implementation


def check_virtual_batch_size(size) -> int | None:
    """Accept None, or a number of examples that have a variance."""
    if size is None:
        return None
    if not isinstance(size, bool) and isinstance(size, numbers.Integral) and size >= 2:
        return int(size)
    raise ValueError(
        f"Received virtual_batch_size={size!r}, expected an integer of at least 2, or None. "
        "It is the number of examples that are normalized together: one alone has no variance."
    )


def check_ghost_axis(axis: int, ndim: int) -> None:
    """Refuse ghost batches of an input whose first axis is not the batch."""
    if axis % ndim == 0:
        raise ValueError(
            f"Received axis={axis} with virtual_batch_size for inputs of {ndim} dimensions, "
            "expected another axis than the first, along which the batch is divided. "
            "Choose the axis that holds the channels, or leave virtual_batch_size out."
        )


def check_inputs(inputs) -> None:
    """Refuse what Keras 2 calls a tensor: the model around it would have none of the weights."""
    if type(inputs).__module__.startswith("tf_keras"):
        raise TypeError(
            f"Received {inputs!r} of tf_keras, expected a tensor or an input of Keras 3. "
            "Build the model with `import keras`; tf_keras is Keras 2, whose layers do not mix."
        )


def is_ragged(inputs) -> bool:
    """Tell whether inputs are a `tf.RaggedTensor`."""
    return keras.backend.backend() == "tensorflow" and hasattr(inputs, "flat_values")


def check_ragged(axis: int, mask, virtual_batch_size) -> None:
    """Refuse what has no meaning for rows of many lengths; axis counts from the end."""
    if axis != -1 or mask is not None or virtual_batch_size is not None:
        raise ValueError(
            f"Received a ragged input with axis={axis}, mask={mask!r} and virtual_batch_size="
            f"{virtual_batch_size}, expected the channels last, no mask and no virtual batch size. "
            "Call `to_tensor()` on the input, and give a mask that leaves the padding out."
        )


def dtype_in_call(dtype, layer) -> str:
    """Name the dtype in which a layer's call will see inputs of a dtype."""
    dtype = keras.backend.standardize_dtype(dtype)
    if not keras.backend.is_float_dtype(dtype):
        return statistics_dtype(dtype)
    dtype = layer.compute_dtype if layer.autocast else dtype
    return statistics_dtype(dtype) if layer.renorm else dtype


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
    last = len(input_shape) - 1
    axis %= len(input_shape)
    if len(mask_shape) != last:
        raise ValueError(
            "The mask provided should be one dimension less than the inputs. "
            f"Received: mask.shape={mask_shape}, inputs.shape={input_shape}. "
            "Leave out the channel axis, and keep every other dimension, of length 1 if need be."
        )
    # Where a size is unknown both may fit: the one with more sizes that are surely equal.
    fit = {
        missing: _num_equal(mask_shape, input_shape[:missing] + input_shape[missing + 1 :])
        for missing in (axis, last)
    }
    if max(fit.values()) < 0:
        expected = input_shape[:axis] + input_shape[axis + 1 :]
        raise ValueError(
            f"Received a mask of shape {mask_shape} for inputs of shape {input_shape} with "
            f"axis={axis}, expected {expected}, where each dimension may be 1. "
            "Give the mask the inputs' shape without the channel axis."
        )
    return max(fit, key=fit.get)


def _num_equal(mask_shape, positions) -> int:
    """Count the sizes that are known and equal; -1 where a mask does not broadcast to positions."""
    sizes = list(zip(mask_shape, positions, strict=True))
    if any(size not in (None, 1, wanted) and wanted is not None for size, wanted in sizes):
        return -1
    return sum(size is not None and size == wanted for size, wanted in sizes)


def _as_float(value) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
