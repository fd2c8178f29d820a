"""Tensors of the Open Inference Protocol to arrays and back; whatever does not fit is refused."""

import base64
import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tritonclient.utils import serialize_byte_tensor

from bnzoo.errors import InputError
from bnzoo.serving.server.limits import invalid
from bnzoo.serving.server.requests import MAX_PARTS, Tensor
from bnzoo.serving.signature import DATATYPES

BYTES = "BYTES"


def read_array(given: Tensor, spec: tf.TensorSpec) -> np.ndarray:
    """Return the array that an input holds.

    Args:
        given: its `data` is a list, flat or nested, or the bytes of the array, little-endian.
        spec: what the model takes.

    Raises:
        Refused: datatype, shape or data do not fit.
    """
    _check_datatype(given, DATATYPES[spec.dtype.name])
    _check_shape(given, spec)
    if not given.shape[0] and math.prod(given.shape[1:]) > MAX_PARTS:  # a row is computed for none
        raise invalid(f"{given.name}: expected rows of at most {MAX_PARTS} values if none is sent.")
    if given.datatype == BYTES:
        values = _strings(given)
    elif isinstance(given.data, bytes | memoryview):
        values = _raw_numbers(given, np.dtype(spec.dtype.as_numpy_dtype))
    else:
        values = _listed_numbers(given, np.dtype(spec.dtype.as_numpy_dtype))
    _check_count(given, values.size)
    return values.reshape(given.shape)


def read_images(given: Tensor) -> Iterator[bytes]:
    """Return the encoded images that an input holds, each made when it is asked for.

    In JSON each is a string in base64; in binary form the bytes themselves.

    Raises:
        Refused: they are no images, or not as many as the shape says; perhaps while iterating.
    """
    _check_datatype(given, BYTES)
    if given.shape[1:] not in ([], [1]) or not given.shape:
        raise invalid(
            f"{given.name}: expected the number of images as the shape, got {given.shape!r:.80}."
        )
    if isinstance(given.data, bytes | memoryview):
        return _strings_in_binary(given)
    if not isinstance(given.data, list):
        raise invalid(f"{given.name}: expected a list of images as data.")
    _check_count(given, len(given.data))
    return (_image(given.name, index, one) for index, one in enumerate(given.data))


def _check_datatype(given: Tensor, datatype: str) -> None:
    if given.datatype != datatype:
        raise invalid(f"{given.name}: expected datatype {datatype}, got {given.datatype!r:.80}.")


def _check_shape(given: Tensor, spec: tf.TensorSpec) -> None:
    # Open dimensions other than the batch must hold something, as in the graph.
    shape = given.shape
    fits = len(shape) == spec.shape.rank and all(
        size == wanted if wanted is not None else size >= (axis > 0)
        for axis, (size, wanted) in enumerate(zip(shape, spec.shape, strict=False))
    )
    if not fits:
        expected = ", ".join("any" if size is None else str(size) for size in spec.shape)
        raise invalid(f"{given.name}: expected shape ({expected}), got {shape!r:.80}.")


def _check_count(given: Tensor, count: int) -> None:
    if count != (expected := math.prod(given.shape)):
        raise invalid(
            f"{given.name}: expected {expected} values for shape {given.shape!r:.80}, got {count}."
        )


def _image(name: str, index: int, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        raise invalid(
            f"{name}[{index}]: expected an image as a string in base64, got {value!r:.80}."
        ) from None


def _strings(given: Tensor) -> np.ndarray:
    if math.prod(given.shape) > MAX_PARTS:
        raise invalid(f"{given.name}: expected at most {MAX_PARTS} strings; send fewer at a time.")
    if isinstance(given.data, bytes | memoryview):
        return np.array(list(_strings_in_binary(given)), object)
    # Of another dtype it turns numbers into strings, and drops NULs.
    values = np.array(given.data if isinstance(given.data, list) else None, object).ravel()
    if not all(isinstance(value, str | bytes) for value in values):
        raise invalid(f"{given.name}: expected strings as data: a list, flat or nested.")
    return np.array([as_bytes(value) for value in values], object)


def _strings_in_binary(given: Tensor) -> Iterator[bytes]:
    """Yield as many strings of the binary form as are said, each behind its length of 4 bytes."""
    data, place = given.data, 0
    for count in range(math.prod(given.shape)):
        if place == len(data):
            _check_count(given, count)
        begin = place + 4
        place = begin + int.from_bytes(data[place:begin], "little")
        if max(begin, place) > len(data):
            raise invalid(f"{given.name}[{count}]: expected a string behind its length.")
        yield bytes(data[begin:place])
    if place < len(data):
        raise invalid(f"{given.name}: expected no bytes behind the strings, got some.")


def _raw_numbers(given: Tensor, dtype: np.dtype) -> np.ndarray:
    if len(given.data) != (size := math.prod(given.shape) * dtype.itemsize):
        raise invalid(
            f"{given.name}: expected {size} bytes for shape {given.shape!r:.80}, got "
            f"{len(given.data)}."
        )
    values = np.frombuffer(given.data, dtype)
    if dtype.kind == "b" and values.view("uint8").max(initial=0) > 1:
        raise invalid(f"{given.name}: expected bytes of 0 or 1 for {given.datatype}.")
    return values


def _listed_numbers(given: Tensor, dtype: np.dtype) -> np.ndarray:
    values = np.asarray(None)
    with contextlib.suppress(ValueError, TypeError, OverflowError):  # as of a ragged list
        values = np.asarray(given.data if isinstance(given.data, list) else None)
    if values.dtype.kind not in ("b" if dtype.kind == "b" else "fiu") and values.size:
        raise invalid(f"{given.name}: expected numbers as data: a list, flat or nested.")
    if dtype.kind in "iu":
        return _whole_numbers(given, values, dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # too large for float32 is infinite there
        return values.astype(dtype, copy=False)


def _whole_numbers(given: Tensor, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with contextlib.suppress(ValueError, OverflowError):
        # Not from `values`: small ones beside some above 2^63 are floats there.
        cast = np.asarray(given.data, dtype)
        if np.array_equal(values, cast):
            return cast
    raise invalid(f"{given.name}: expected whole numbers that fit {dtype.name}.")


def as_bytes(value: str | bytes) -> bytes:
    """Return a string as the protocol has it."""
    return value.encode() if isinstance(value, str) else value


def datatype(values: np.ndarray) -> str:
    """Return the protocol's name for the dtype of an answer; strings are arrays of objects."""
    return BYTES if values.dtype.kind == "O" else DATATYPES[values.dtype.name]


def to_bytes(values: np.ndarray) -> bytes:
    """Return an array in the protocol's binary form: row by row, little-endian."""
    if values.dtype.kind == "O":
        return serialize_byte_tensor(values).item() if values.size else b""
    return values.tobytes()


def to_list(values: np.ndarray) -> np.ndarray | list[str]:
    """Return an array flat, as orjson writes it; NaN and infinity become null there."""
    if values.dtype.kind == "O":
        return [one.decode(errors="replace") for one in map(as_bytes, values.flat)]
    # bfloat16 is none of NumPy's own.
    return (values.astype("float32") if values.dtype.kind == "V" else values).ravel()


def metadata(name: str, spec: tf.TensorSpec) -> dict[str, Any]:
    """Describe a tensor as the protocol does: -1 is an open dimension.

    Raises:
        InputError: the protocol has no such datatype.
    """
    if spec.dtype.name not in DATATYPES:
        raise InputError(
            f"{name}: expected one of {', '.join(DATATYPES)}, got {spec.dtype.name}, which the "
            "protocol has not. Export a model that takes and answers one of them."
        )
    shape = [-1 if size is None else size for size in spec.shape]
    return {"name": name, "datatype": DATATYPES[spec.dtype.name], "shape": shape}
