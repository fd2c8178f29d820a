"""Requests computed together, and off the event loop."""

import asyncio
import concurrent.futures
from collections import deque

import numpy as np

from bnzoo.serving.image_bytes import PARALLEL
from bnzoo.serving.server.loaded import LoadedExport

# Apart from each other: large images, slow to decode, do not keep other requests waiting.
_COMPUTING = concurrent.futures.ThreadPoolExecutor(4, "compute")
_DECODING = concurrent.futures.ThreadPoolExecutor(PARALLEL, "decode")

WORTH_WAITING = 4
"""From how many expected requests on a batch waits for them; fewer are sooner done alone."""

PAUSE, LONGEST_WAIT = 0.001, 0.01
"""Seconds: how long nobody may come before a batch goes without the others, and how long it waits
at most."""

Answers = dict[str, np.ndarray]


async def compute(export: LoadedExport, inputs: np.ndarray) -> Answers:
    """Return the answers to a batch, computed in another thread."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_COMPUTING, export.compute, inputs)


async def decode(export: LoadedExport, images: list[bytes]) -> np.ndarray:
    """Return the model inputs of encoded images, decoded in another thread."""
    return await asyncio.get_running_loop().run_in_executor(_DECODING, export.decode, images)


class Batcher:
    """Joins checked inputs of one shape.

    A request that comes alone is computed at once. Clients that came together are expected
    together again, so the busier the server the larger its batches. MLServer's own batcher, which
    this stands in for, keeps every request waiting for a fixed time, joins Python lists, and when
    a client goes away its neighbours get no answer; with 32 clients it was slower than none.

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
