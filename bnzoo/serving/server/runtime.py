"""The model behind a name and a version: each request is checked alone, then computed together."""

import asyncio
import concurrent.futures
import functools
from collections import deque

import numpy as np
import tensorflow as tf
from mlserver import MLModel
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput

from bnzoo.serving import image_bytes
from bnzoo.serving.server import tensors
from bnzoo.serving.server.repository import LoadedExport

# Apart from each other: large images, slow to decode, do not keep other requests waiting.
_COMPUTING = concurrent.futures.ThreadPoolExecutor(4, "compute")
_DECODING = concurrent.futures.ThreadPoolExecutor(image_bytes.PARALLEL, "decode")

WORTH_WAITING = 4
"""From how many expected requests on a batch waits for them; fewer are sooner done alone."""

PAUSE, LONGEST_WAIT = 0.001, 0.01
"""Seconds: how long nobody may come before a batch goes without the others, and how long it waits
at most."""

MAX_SHAPES = 8
"""How many shapes of an open dimension have a queue; with more the oldest queue begins anew."""

Answers = dict[str, np.ndarray]


async def compute(export: LoadedExport, inputs: np.ndarray) -> Answers:
    """Return the answers to a batch, computed in another thread."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_COMPUTING, export.compute, inputs)


class Batcher:
    """Joins checked inputs of one shape.

    A request that comes alone is computed at once. Clients that came together are expected
    together again, so the busier the server the larger its batches. MLServer's own batcher, which
    this stands in for, keeps every request waiting for a fixed time, joins Python lists, and when
    a client goes away its neighbors get no answer; with 32 clients it was slower than none.

    Args:
        export: computes.
        max_rows: how many rows may be joined.
    """

    def __init__(self, export: LoadedExport, max_rows: int):
        self._export, self._max_rows = export, max_rows
        self._waiting: deque[tuple[np.ndarray, asyncio.Future[Answers]]] = deque()
        self._work: asyncio.Task | None = None
        self._expected = 1  # requests, in the next batch

    async def answer(self, inputs: np.ndarray) -> Answers:
        """Return the answers to these rows, computed with those of others."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((inputs, answer))
        if self._work is None:
            self._work = asyncio.create_task(self._compute_waiting())
        return await answer

    async def _compute_waiting(self) -> None:
        try:
            while self._waiting:
                await self._wait_for_others()
                batch = self._next_batch()
                await self._compute_batch(batch)
                self._expected = len(batch) + len(self._waiting)
        finally:
            self._work = None

    async def _wait_for_others(self) -> None:
        loop = asyncio.get_running_loop()
        wanted, until = min(self._expected, self._max_rows), loop.time() + LONGEST_WAIT
        found = 0 if wanted >= WORTH_WAITING else self._max_rows
        while found < len(self._waiting) < wanted and loop.time() < until:
            found = len(self._waiting)
            await asyncio.sleep(PAUSE)

    def _next_batch(self) -> list[tuple[np.ndarray, asyncio.Future[Answers]]]:
        batch, rows = [], 0
        while self._waiting and (not batch or rows + len(self._waiting[0][0]) <= self._max_rows):
            inputs, answer = self._waiting.popleft()
            if not answer.done():  # else its client has gone away
                batch.append((inputs, answer))
                rows += len(inputs)
        return batch

    async def _compute_batch(self, batch) -> None:
        if not batch:
            return
        joined = [inputs for inputs, _ in batch]
        try:
            answers = await compute(self._export, np.concatenate(joined))
        except Exception as error:
            if len(batch) > 1:  # one may spoil it for the others
                for one in batch:
                    await self._compute_batch([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        ends = np.cumsum([len(inputs) for inputs in joined])
        for (inputs, answer), end in zip(batch, ends, strict=True):
            rows = slice(end - len(inputs), end)
            if not answer.done():
                answer.set_result({name: values[rows] for name, values in answers.items()})


class ExportedModel(MLModel):
    """Serves one export.

    A request is decoded and checked before it may join others, so that it spoils nobody's.
    """

    async def load(self) -> bool:
        """Take the export, which the repository has brought into memory."""
        extra = self.settings.parameters.extra
        export, max_rows = extra["export"], extra["max_batch_size"]
        self._export, self._max_rows = export, max_rows
        self._known = [export.input_spec.name]
        self.inputs = [tensors.metadata(export.input_spec.name, export.input_spec)]
        self.outputs = [tensors.metadata(*item) for item in export.output_specs.items()]
        if export.takes_images:
            self._known.append(image_bytes.INPUT_NAME)
        self._batcher = functools.lru_cache(MAX_SHAPES)(lambda shape: Batcher(export, max_rows))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Check one request, compute it with others, answer it."""
        given = tensors.the_only_input(payload, self._known)
        is_images = given.name == image_bytes.INPUT_NAME
        if is_images:
            inputs = await self._decoded(given)
        else:
            inputs = tensors.read_array(given, self._export.input_spec)
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

    async def _decoded(self, given: RequestInput) -> np.ndarray:
        images, loop = tensors.read_images(given), asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(_DECODING, self._export.decode, images)
        except tf.errors.InvalidArgumentError:
            raise InferenceError(
                f"{given.name}: expected whole PNG or JPEG images of at most 16 million pixels; "
                "one cannot be decoded."
            ) from None

    async def _computed(self, inputs: np.ndarray) -> Answers:
        try:
            if len(inputs) >= self._max_rows:  # also when batching is off, at 1
                return await compute(self._export, inputs)
            return await self._batcher(inputs.shape[1:]).answer(inputs)
        except tf.errors.InvalidArgumentError as error:
            # Such as sequences shorter than a kernel, where the model leaves their length open.
            raise InferenceError(
                f"the model refuses it: {error.message.splitlines()[-1]}"
            ) from None
