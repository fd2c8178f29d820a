"""Requests of one shape that are computed together."""

import asyncio
import concurrent.futures
from collections.abc import Callable

import numpy as np

WORTH_WAITING = 4
"""From how many expected requests on a batch waits for them; fewer are sooner done alone."""

PAUSE, LONGEST_WAIT = 0.001, 0.01
"""Seconds: how long nobody may come before a batch goes without the others, and how long it waits
at most."""

Answers = dict[str, np.ndarray]
Batch = dict[asyncio.Future[Answers], np.ndarray]
"""Inputs by what becomes of them, in the order in which they came."""

_THREADS = concurrent.futures.ThreadPoolExecutor(4, "compute")


class Batcher:
    """Joins checked inputs of one shape.

    A request that comes alone is computed at once. Clients that came together are expected
    together again, so the busier the server the larger its batches. Those whose client has gone
    away are left out, and one that fails spoils it for nobody else.

    Args:
        compute: from a batch of inputs to answers with as many rows.
        max_rows: how many rows may be joined; larger requests are computed alone.
    """

    def __init__(self, compute: Callable[[np.ndarray], Answers], max_rows: int):
        self._compute, self._max_rows = compute, max_rows
        self._waiting: Batch = {}
        self._work: asyncio.Task | None = None
        self._expected = 1  # requests, in the next batch

    async def answer(self, inputs: np.ndarray) -> Answers:
        """Return the answers to these rows, computed with those of others."""
        if len(inputs) >= self._max_rows:  # also when batching is off, at 1
            return await self._in_thread(inputs)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[answer] = inputs
        self._work = self._work or asyncio.create_task(self._compute_waiting())
        try:
            return await answer
        finally:
            self._waiting.pop(answer, None)  # the rows of a client that has gone away
            del answer  # or an error and this frame would hold each other, and the rows

    async def _in_thread(self, inputs: np.ndarray) -> Answers:
        work, loop = [inputs], asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(_THREADS, lambda: self._compute(*work))
        finally:
            work.clear()  # a place in the queue for threads holds no rows

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

    def _next_batch(self) -> Batch:
        batch, rows = {}, 0
        for answer, inputs in self._waiting.items():
            rows += len(inputs)
            if rows > self._max_rows:
                break
            batch[answer] = inputs
        for answer in batch:
            del self._waiting[answer]
        return batch

    async def _compute_batch(self, batch: Batch) -> None:
        try:
            answers = await self._in_thread(np.concatenate([*batch.values()]))
        except Exception as error:
            for answer, inputs in batch.items():
                if len(batch) > 1:  # one may spoil it for the others
                    await self._compute_batch({answer: inputs})
                elif not answer.done():
                    answer.set_exception(error)
            return
        end = 0
        for answer, inputs in batch.items():
            begin, end = end, end + len(inputs)
            if not answer.done():  # else its client has gone away
                answer.set_result({name: rows[begin:end] for name, rows in answers.items()})
