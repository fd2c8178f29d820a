"""The model behind a name and a version: each request is checked alone, then computed together."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from mlserver import MLModel
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput

from bnzoo.serving.server import tensors
from bnzoo.serving.server.batching import Batcher, compute, decode
from bnzoo.serving.server.loaded import LoadedExport, load_export

MAX_SHAPES = 8
"""How many shapes of an open dimension are batched, each for itself."""


class ExportedModel(MLModel):
    """Serves one export.

    A request is decoded and checked before it may join others, so that it spoils nobody's.
    """

    async def load(self) -> bool:
        """Take the export, which the repository has brought into memory."""
        export = load_export(Path(self.settings.parameters.uri))
        self._export: LoadedExport = export
        self._known = [export.input_spec.name]
        self.inputs = [tensors.metadata(export.input_spec.name, export.input_spec)]
        self.outputs = [tensors.metadata(*item) for item in export.output_specs.items()]
        if export.takes_images:
            self._known.append(tensors.IMAGE_BYTES)
        self._max_rows = self.settings.parameters.extra["max_batch_size"]
        self._batchers: dict[tuple[int, ...], Batcher] = {}
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Check one request, compute it with others, answer it."""
        given = tensors.the_only_input(payload, self._known)
        is_images = given.name == tensors.IMAGE_BYTES
        inputs = await self._decoded(given) if is_images else self._array(given)
        wanted = None if payload.outputs is None else [one.name for one in payload.outputs]
        answers = await self._computed(inputs)
        if is_images and self._export.class_names and "class_id" in answers:
            names = np.array(["", *self._export.class_names], object)
            answers["class_name"] = names[answers["class_id"] + 1]
        return InferenceResponse.model_construct(
            model_name=self.name,
            model_version=self.version,
            outputs=tensors.response_outputs(answers, wanted),
        )

    def _array(self, given: RequestInput) -> np.ndarray:
        return tensors.read_array(given, self._export.input_spec)

    async def _decoded(self, given: RequestInput) -> np.ndarray:
        images = tensors.read_images(given)
        try:
            return await decode(self._export, images)
        except tf.errors.InvalidArgumentError:
            raise InferenceError(
                f"{given.name}: expected whole PNG or JPEG images of at most 16 million pixels; "
                "one cannot be decoded."
            ) from None

    async def _computed(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        if not len(inputs):  # some of TensorFlow's fused kernels fail on no rows
            return self._export.answer_to_nothing()
        batcher = self._batcher(inputs.shape)
        try:
            if batcher is None:
                return await compute(self._export, inputs)
            return await batcher.answer(inputs)
        except tf.errors.InvalidArgumentError as error:
            # Such as sequences shorter than a kernel, where the model leaves their length open.
            raise InferenceError(
                f"the model refuses it: {error.message.splitlines()[-1]}"
            ) from None

    def _batcher(self, shape: tuple[int, ...]) -> "Batcher | None":
        """Return the batcher of inputs that can be joined, or None for those that go alone."""
        rows, *row_shape = shape
        if rows >= self._max_rows:  # also when batching is off, at 1
            return None
        key = tuple(row_shape)
        if key not in self._batchers:
            if len(self._batchers) >= MAX_SHAPES:
                return None
            self._batchers[key] = Batcher(self._export, self._max_rows)
        return self._batchers[key]
