"""One version of an exported model: each request is checked alone, then computed with others."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from bnzoo.data.preprocessing import Preprocessing
from bnzoo.errors import InputError
from bnzoo.serving.image_bytes import INPUT_NAME
from bnzoo.serving.layout import METADATA_FILE
from bnzoo.serving.saved_model import (
    SERVE_BYTES,
    SERVING_DEFAULT,
    load_saved_model,
    read_metadata,
)
from bnzoo.serving.server import tensors
from bnzoo.serving.server.batcher import Answers, Batcher
from bnzoo.serving.server.decoding import Decoder
from bnzoo.serving.server.limits import invalid
from bnzoo.serving.server.requests import InferRequest, the_only_input, wanted_outputs

MAX_SHAPES = 8
"""How many shapes of an open dimension have a queue; with more the oldest queue begins anew."""

_ORDER = ("logits", "probabilities", "class_id", "class_name")


class ServedModel:
    """An export in memory, warmed up.

    Args:
        folder: of the version.
        max_rows: how many rows of several requests may be computed together; 1: none.
        decoder: of encoded images.
        count_rows: called with the rows of each batch, in any thread.

    Attributes:
        inputs, outputs: of every signature, as the protocol describes tensors.

    Raises:
        InputError: TensorFlow cannot load it, it has several inputs, or a dtype that the protocol
            has not.
    """

    def __init__(
        self, folder: Path, max_rows: int, decoder: Decoder, count_rows: Callable[[int], None]
    ):
        self._model = load_saved_model(folder)  # signatures do not keep their variables alive
        signatures = dict(self._model.signatures)
        self._serve, self._decoder = signatures[SERVING_DEFAULT], decoder
        self._count_rows = count_rows
        self._spec = _the_only_spec(self._serve, folder)
        found = read_metadata(folder)
        self._names = np.array(["", *(found.get("class_names") or [])], object)  # "" is that of -1
        served = [self._serve]
        if SERVE_BYTES in signatures:
            self._settings = _settings_in(found, folder)
            decoder.warm_up(self._settings)
            served.append(signatures[SERVE_BYTES])
        self.inputs = _described(*(one.structured_input_signature[1] for one in served))
        self.outputs = _described(*(one.structured_outputs for one in served))
        # One queue for each shape that comes.
        self._batcher = functools.lru_cache(MAX_SHAPES)(lambda _: Batcher(self._compute, max_rows))
        # The first call of a graph takes many times as long as the others. It may be refused: where
        # the model leaves a length open, 1 may be shorter than a kernel.
        with contextlib.suppress(tf.errors.InvalidArgumentError):
            self._serve(**{self._spec.name: self._zeros([size or 1 for size in self._spec.shape])})

    async def infer(self, request: InferRequest) -> Answers:
        """Return the answers that a request asks for, strings as arrays of bytes.

        Raises:
            Refused: it does not fit the model.
        """
        names = [one["name"] for one in self.inputs]
        given, known = the_only_input(request, names), [one["name"] for one in self.outputs]
        if given.name == INPUT_NAME:
            wanted = wanted_outputs(request, known)
            answers = await self._answer_images(tensors.read_images(given))
            if "class_name" in wanted:
                answers["class_name"] = self._names[answers["class_id"] + 1]
        else:
            wanted = wanted_outputs(request, [one for one in known if one != "class_name"])
            answers = await self._answer(tensors.read_array(given, self._spec))
        return {name: answers[name] for name in wanted}

    async def _answer_images(self, images: Iterator[bytes]) -> Answers:
        with self._decoder.pixels.share() as take:
            inputs = await self._decoder.decode(self._settings, images)
            take(inputs.size)  # no more than was just given back: nothing came between
            return await self._answer(inputs)

    async def _answer(self, inputs: np.ndarray) -> Answers:
        try:
            return await self._batcher(inputs.shape[1:]).answer(inputs)
        except tf.errors.InvalidArgumentError as error:
            # Such as sequences shorter than a kernel, where the model leaves their length open.
            raise invalid(f"the model refuses it: {_reason(error)}") from None

    def _compute(self, inputs: np.ndarray) -> Answers:
        self._count_rows(len(inputs))
        # Some of TensorFlow's fused kernels fail on no rows.
        rows = inputs if len(inputs) else self._zeros([1, *inputs.shape[1:]])
        answers = self._serve(**{self._spec.name: tf.convert_to_tensor(rows, self._spec.dtype)})
        return {name: values.numpy()[: len(inputs)] for name, values in answers.items()}

    def _zeros(self, shape: list[int]) -> tf.Tensor:
        return tf.zeros(shape, self._spec.dtype)  # empty strings, where it takes strings


def _the_only_spec(serve: tf.types.experimental.ConcreteFunction, folder: Path) -> tf.TensorSpec:
    """Return the input of a signature whose outputs have a row for each of its rows."""
    specs = serve.structured_input_signature[1]
    if len(specs) != 1:
        raise InputError(
            f"{folder}: expected one input, got {len(specs)}: {', '.join(sorted(specs))}. "
            "Export a model that takes one."
        )
    (spec,) = specs.values()
    for name, one in {spec.name: spec, **serve.structured_outputs}.items():
        if one.shape.rank == 0 or one.shape[0] not in (None, spec.shape[0]):
            raise InputError(
                f"{folder}: {name}: expected a row for each row of the input, got shape "
                f"{one.shape}. Export a model that answers each row alone."
            )
    return spec


def _settings_in(metadata: dict[str, Any], folder: Path) -> Preprocessing:
    try:
        return Preprocessing.from_dict(metadata["preprocessing"])
    except (KeyError, TypeError):
        raise InputError(
            f"{folder / METADATA_FILE}: expected how images become inputs, under 'preprocessing', "
            "as the export wrote it. Export the model again."
        ) from None


def _described(*signatures: dict[str, tf.TensorSpec]) -> list[dict[str, Any]]:
    """Describe the tensors of signatures, in the order in which they are documented."""
    # TensorFlow gives them in another order each time.
    specs = {name: spec for one in signatures for name, spec in sorted(one.items())}
    places = {name: _ORDER.index(name) if name in _ORDER else -1 for name in specs}
    return [tensors.metadata(name, specs[name]) for name in sorted(specs, key=places.get)]


def _reason(error: tf.errors.OpError) -> str:
    """Return the line of an error that says what was wrong, without the names of operations."""
    said = error.message.partition("[[")[0].strip().rpartition("\n")[2]
    return re.sub(r"\{\{.*?\}\} ?|\[Op:.*?\]|^ *\(0\) \w+: *", "", said).strip()[:300]
