"""Tensors of the Open Inference Protocol to arrays and back; whatever does not fit is refused."""

import base64
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
            f"inputs: expected exactly one, named {' or '.join(known)}, got {names!r:.80}."
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
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    data, shape = _data_of(given, to_datatype(dtype).value), list(given.shape)
    _check_shape(given.name, shape, spec)
    values = _numbers(given.name, data, dtype)
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
    data, shape = _data_of(given, "BYTES"), list(given.shape)
    if not isinstance(data, list) or shape not in ([len(data)], [len(data), 1]):
        raise InferenceError(
            f"{given.name}: expected a list of images and its length as the shape, got shape "
            f"{shape!r:.80}."
        )
    named = given.parameters and given.parameters.content_type == "base64"
    return [_image(given.name, one, bool(named)) for one in data]


def _data_of(given: RequestInput, datatype: str) -> Any:
    if given.datatype != datatype:
        raise InferenceError(
            f"{given.name}: expected datatype {datatype}, got {given.datatype!r:.80}."
        )
    return getattr(given.data, "root", given.data)


def _image(name: str, value: Any, is_base64: bool) -> bytes:
    if isinstance(value, bytes) and not is_base64:
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        raise InferenceError(
            f"{name}: expected each image as a string in base64, got {value!r:.80}."
        ) from None


def _check_shape(name: str, shape: list[int], spec: tf.TensorSpec) -> None:
    # Open dimensions other than the batch must hold something, as in the graph.
    fits = len(shape) == spec.shape.rank and all(
        size == wanted if wanted is not None else size >= (axis > 0)
        for axis, (size, wanted) in enumerate(zip(shape, spec.shape, strict=False))
    )
    if not fits:
        expected = ", ".join("any" if size is None else str(size) for size in spec.shape)
        raise InferenceError(f"{name}: expected shape ({expected}), got {shape!r:.80}.")


def _numbers(name: str, data: Any, dtype: np.dtype) -> np.ndarray:
    is_raw = isinstance(data, bytes)
    try:
        values = np.frombuffer(data, dtype.newbyteorder("<")) if is_raw else np.asarray(data)
    except (ValueError, TypeError, OverflowError, RecursionError):  # ragged, or absurdly deep
        values = np.asarray(None)
    is_number = values.dtype.kind in ("b" if dtype.kind == "b" else "fiu")
    if not (is_number or values.size == 0):
        raise InferenceError(
            f"{name}: expected numbers as data: a list, flat or nested, or raw {dtype.name}."
        )
    if dtype.kind in "iu" and values.size and not np.array_equal(values, values.astype(dtype)):
        raise InferenceError(f"{name}: expected whole numbers that fit {dtype.name}.")
    with np.errstate(over="ignore"):  # too large for float32 is infinite there
        return values.astype(dtype, copy=False)


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
            f"outputs: expected some of {', '.join(answers)}, got {unknown!r:.80}."
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
    datatype = to_datatype(np.dtype(spec.dtype.as_numpy_dtype)).value
    shape = [-1 if size is None else size for size in spec.shape]
    return MetadataTensor(name=name, datatype=datatype, shape=shape)
