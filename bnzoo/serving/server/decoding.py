"""Encoded images of all requests, decoded in processes of their own, in a fair order."""

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from bnzoo.data.preprocessing import Preprocessing
from bnzoo.serving.image_bytes import INPUT_NAME, MAX_PIXELS
from bnzoo.serving.server.decoding_process import Undecodable, decode, new_processes
from bnzoo.serving.server.image_files import read_image_file
from bnzoo.serving.server.limits import Budget, Refused, invalid

logger = logging.getLogger(__name__)

PARALLEL = min(4, max(1, (os.cpu_count() or 1) // 2))
"""Decoding processes: half of the cores, as computing must go on beside them."""

MAX_PIXELS_OF_REQUEST = 4 * MAX_PIXELS
MAX_PIXELS_IN_FLIGHT = 16 * MAX_PIXELS
"""16.8 million pixels take 0.1 to 0.35 s, so whoever is admitted waits for seconds at most."""

TURN = 2**20
"""Pixels that are decoded in one go, unless a single image has more."""

SMALLEST_TURN = 2**17
"""Pixels that a turn counts as at least: as many are decoded while one is handed to a process."""

PATIENCE = MAX_PIXELS_IN_FLIGHT // MAX_PIXELS
"""How many times its own pixels a turn lets later ones go first. So the smallest images overtake
even a queue that is full of the largest."""

SMALLEST = 2**12
"""Pixels that an image counts as at least: a tiny one has its cost too. It also counts as no less
than the values of the model input that it becomes, so that these are bounded."""


class Decoder:
    """Decodes in processes that step back for everything else: none of it blocks this one.

    Requests take turns. Each turn is stamped with all pixels decoded so far plus `PATIENCE` times
    its own; the smallest stamp goes next. So a small image waits for what is being decoded, not for
    the large ones in the queue, and these wait no longer than until so many pixels are decoded.
    Before each turn a request whose client has gone away is dropped.

    To be made inside the event loop.

    Attributes:
        pixels: budget of those that were admitted and not yet decoded; whoever asked then takes
            of it for what they have become.
    """

    def __init__(self):
        self.pixels = Budget(MAX_PIXELS_IN_FLIGHT, "pixels of images")
        self._queue, self._order, self._decoded = asyncio.PriorityQueue(), itertools.count(), 0
        self._workers = [asyncio.create_task(self._work()) for _ in range(PARALLEL)]
        self._processes = new_processes(PARALLEL)
        self._warming: list[concurrent.futures.Future] = []

    def warm_up(self, settings: Preprocessing) -> None:
        """Let the processes begin, before the first image comes; in any thread."""
        with contextlib.suppress(BrokenProcessPool):
            for _ in range(PARALLEL):
                self._warming.append(self._processes.submit(decode, settings, []))

    def wait_until_warm(self) -> None:
        """Return once the processes have begun for all that `warm_up` was called for."""
        concurrent.futures.wait(self._warming)
        self._warming.clear()

    async def decode(self, settings: Preprocessing, images: Iterable[bytes]) -> np.ndarray:
        """Return the model inputs that encoded images make.

        Args:
            settings: of the data that the model was trained on.
            images: the bytes of PNG or JPEG files.

        Raises:
            Refused: one is no such image, they have too many pixels, or the server is busy.
        """
        least = max(SMALLEST, math.prod((*settings.image_size, settings.channels)))
        images, sizes = await asyncio.to_thread(_measured, images, least)
        with self.pixels.share() as take:
            take(sum(sizes))
            parts = []
            for turn in _turns(sizes):
                size = max(sum(sizes[turn]), SMALLEST_TURN)
                try:
                    parts.append(await self._in_turn(size, settings, images[turn]))
                except Undecodable as error:
                    raise _no_image(turn.start + error.args[0]) from None
        return np.concatenate(parts)

    async def _in_turn(self, size: int, settings: Preprocessing, images: list[bytes]) -> np.ndarray:
        made, work = asyncio.get_running_loop().create_future(), [settings, images]
        stamp = self._decoded + PATIENCE * size
        self._queue.put_nowait((stamp, next(self._order), size, work, made))
        try:
            return await made
        finally:
            work.clear()  # the place in the queue of a client that has gone away holds no images
            del made  # or a refusal and this frame would hold each other, and the images

    async def _work(self) -> None:
        while True:
            _, _, size, work, made = await self._queue.get()
            if made.done():  # its client has gone away
                continue
            self._decoded += size
            try:
                settle, outcome = made.set_result, await self._in_process(*work)
            except Exception as error:
                settle, outcome = made.set_exception, error
            if not made.done():
                settle(outcome)

    async def _in_process(self, settings: Preprocessing, images: list[bytes]) -> np.ndarray:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            processes = self._processes
            try:
                return await loop.run_in_executor(processes, decode, settings, images)
            except BrokenProcessPool:  # as when the system has killed one
                if processes is self._processes:
                    logger.error("a decoding process has ended; others take its place")
                    self._processes = new_processes(PARALLEL)
        raise Refused(503, "the decoding of images has broken off; try again in a second.")

    def stop(self) -> None:
        """End the processes; what they are at is not waited for."""
        for worker in self._workers:
            worker.cancel()  # or another process would begin in the place of one that has ended
        # Else the end of this process waits for them. From Python 3.14 on: `kill_workers`.
        processes = list(self._processes._processes.values())
        self._processes.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()


def _measured(images: Iterable[bytes], least: int) -> tuple[list[bytes], list[int]]:
    """Return what is decoded of images, and as how many pixels each counts: `least` or more."""
    kept, sizes, total = [], [], 0
    for index, image in enumerate(images):
        try:
            file = read_image_file(image)
        except ValueError:
            raise _no_image(index) from None
        if (pixels := file.width * file.height) > MAX_PIXELS:
            raise invalid(
                f"{INPUT_NAME}[{index}]: expected at most {MAX_PIXELS} pixels, got "
                f"{file.width} x {file.height}."
            )
        kept.append(file.contents)
        sizes.append(max(pixels * file.passes, least))
        if (total := total + sizes[-1]) > MAX_PIXELS_OF_REQUEST:
            raise Refused(
                413,
                f"{INPUT_NAME}: expected at most {MAX_PIXELS_OF_REQUEST} pixels in a request, got "
                f"more in its first {index + 1} images; send fewer at a time.",
            )
    return kept, sizes


def _turns(sizes: list[int]) -> Iterator[slice]:
    """Cut images into groups of at most `TURN` pixels, or of one image; one group if none."""
    start, total = 0, 0
    for index, size in enumerate(sizes):
        if index > start and total + size > TURN:
            yield slice(start, index)
            start, total = index, 0
        total += size
    yield slice(start, len(sizes))


def _no_image(index: int) -> Refused:
    return invalid(f"{INPUT_NAME}[{index}]: expected the bytes of a whole PNG or JPEG image.")
