"""Tensors of the Open Inference Protocol to arrays and back; whatever does not fit is refused."""

import base64
import binascii
import math
from typing import Any

import numpy as np
import tensorflow as tf
from mlserver.codecs.numpy import to_datatype
from mlserver.errors import InferenceError
from mlserver.types import (
    InferenceRequest,
    MetadataTensor,
    Parameters,
    RequestInput,
    ResponseOutput,
    TensorData,
)


def the_only_input(request: InferenceRequest, known: list[str]) -> RequestInput:
    """Return the input of a request.

    Raises:
        InferenceError: there is none, there are several, or it has another name.
    """
    names = [one.name for one in request.inputs]
    if len(names) != 1 or names[0] not in known:
        raise InferenceError(
            f"inputs: expected exactly one, named {' or '.join(known)}, got {_short(names)}."
        )
    return request.inputs[0]


def read_array(given: RequestInput, spec: tf.TensorSpec) -> np.ndarray:
    """Return the array that an input holds.

    Args:
        given: its `data` is a list, flat or nested, or the bytes of the array.
        spec: what the model takes.

    Raises:
        InferenceError: datatype, shape or data do not fit.
    """
    wanted = _datatype(spec)
    if given.datatype != wanted:
        raise InferenceError(
            f"{given.name}: expected datatype {wanted}, got {_short(given.datatype)}."
        )
    shape = _checked_shape(given, spec)
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    data = getattr(given.data, "root", given.data)
    values = _from_bytes(data, dtype) if isinstance(data, bytes) else _from_list(given, data, dtype)
    if values.size != math.prod(shape):
        raise InferenceError(
            f"{given.name}: expected {math.prod(shape)} values for shape {shape}, got "
            f"{values.size}."
        )
    return values.reshape(shape)


def read_images(given: RequestInput) -> list[bytes]:
    """Return the encoded images that an input holds.

    Over HTTP each is a string in base64; over gRPC the bytes themselves.

    Raises:
        InferenceError: they are no such thing, or not as many as the shape says.
    """
    if given.datatype != "BYTES":
        raise InferenceError(
            f"{given.name}: expected datatype BYTES, got {_short(given.datatype)}."
        )
    data = getattr(given.data, "root", given.data)
    shape = list(given.shape)
    if not isinstance(data, list) or shape not in ([len(data)], [len(data), 1]):
        raise InferenceError(
            f"{given.name}: expected a list of images and its length as the shape, got shape "
            f"{_short(shape)}."
        )
    named = given.parameters and given.parameters.content_type == "base64"
    return [_image(given.name, one, bool(named)) for one in data]


def _image(name: str, value: Any, is_base64: bool) -> bytes:
    if isinstance(value, bytes) and not is_base64:
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InferenceError(
            f"{name}: expected each image as a string in base64, got {_short(value)}."
        ) from None


def _checked_shape(given: RequestInput, spec: tf.TensorSpec) -> list[int]:
    shape = list(given.shape)
    # Open dimensions other than the batch must hold something, as in the graph.
    fits = len(shape) == spec.shape.rank and all(
        size == wanted if wanted is not None else size >= (axis > 0)
        for axis, (size, wanted) in enumerate(zip(shape, spec.shape, strict=False))
    )
    if not fits:
        expected = ", ".join("any" if size is None else str(size) for size in spec.shape)
        raise InferenceError(f"{given.name}: expected shape ({expected}), got {_short(shape)}.")
    return shape


def _from_bytes(data: bytes, dtype: np.dtype) -> np.ndarray:
    if len(data) % dtype.itemsize:
        raise InferenceError(
            f"expected values of {dtype.itemsize} bytes each, got {len(data)} bytes."
        )
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False)


def _from_list(given: RequestInput, data: Any, dtype: np.dtype) -> np.ndarray:
    try:
        values = np.asarray(data)
    except (ValueError, TypeError, OverflowError, RecursionError):  # ragged, or absurdly deep
        values = np.asarray(None)
    is_number = values.dtype.kind in ("b" if dtype.kind == "b" else "fiu")
    if not (is_number or values.size == 0):
        raise InferenceError(f"{given.name}: expected a list of numbers as data, flat or nested.")
    if dtype.kind in "iu" and values.size and not np.array_equal(values, values.astype(dtype)):
        raise InferenceError(f"{given.name}: expected whole numbers that fit {dtype.name}.")
    with np.errstate(over="ignore"):  # too large for float32 is infinite there
        return values.astype(dtype)


def response_outputs(
    answers: dict[str, np.ndarray], wanted: list[str] | None
) -> list[ResponseOutput]:
    """Return answers as outputs of a response.

    Args:
        answers: array by name; strings as object arrays of str.
        wanted: the names that were asked for, in order; None for all.

    Raises:
        InferenceError: a name that was asked for is none of them.
    """
    names = list(answers) if wanted is None else wanted
    unknown = [name for name in names if name not in answers]
    if unknown:
        raise InferenceError(
            f"outputs: expected some of {', '.join(answers)}, got {_short(unknown)}."
        )
    return [_output(name, answers[name]) for name in names]


def _output(name: str, values: np.ndarray) -> ResponseOutput:
    is_text = values.dtype.kind == "O"
    data = [text.encode() for text in values] if is_text else values.ravel().tolist()
    return ResponseOutput.model_construct(  # nothing that would have to be validated
        name=name,
        shape=list(values.shape),
        datatype=to_datatype(values.dtype).value,
        data=TensorData.model_construct(root=data),
        parameters=Parameters(content_type="str") if is_text else None,
    )


def metadata(name: str, spec: tf.TensorSpec) -> MetadataTensor:
    """Describe a tensor as the protocol does: -1 is an open dimension."""
    shape = [-1 if size is None else size for size in spec.shape]
    return MetadataTensor(name=name, datatype=_datatype(spec), shape=shape)


def _datatype(spec: tf.TensorSpec) -> str:
    """Return the protocol's name of a dtype."""
    return to_datatype(np.dtype(spec.dtype.as_numpy_dtype)).value


def _short(value: Any) -> str:
    """Return how a value looks, cut to what a message can hold."""
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
