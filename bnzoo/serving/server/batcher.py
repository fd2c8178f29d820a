"""Requests of one shape that are computed together."""

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Callable

import numpy as np

WORTH_WAITING = 4
"""From how many expected requests on a batch waits for them; fewer are sooner done alone."""

PAUSE, LONGEST_WAIT = 0.001, 0.01
"""Seconds: how long nobody may come before a batch goes without the others, and how long it waits
at most."""

Answers = dict[str, np.ndarray]
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
        self._waiting: deque[tuple[np.ndarray, asyncio.Future[Answers]]] = deque()
        self._work: asyncio.Task | None = None
        self._expected = 1  # requests, in the next batch

    async def answer(self, inputs: np.ndarray) -> Answers:
        """Return the answers to these rows, computed with those of others."""
        if len(inputs) >= self._max_rows:  # also when batching is off, at 1
            return await self._in_thread(inputs)
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((inputs, answer))
        if self._work is None:
            self._work = asyncio.create_task(self._compute_waiting())
        return await answer

    async def _in_thread(self, inputs: np.ndarray) -> Answers:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, self._compute, inputs)

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
            answers = await self._in_thread(np.concatenate(joined))
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
