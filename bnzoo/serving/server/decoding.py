"""Encoded images of all requests, decoded in a fair order and within bounds."""

import asyncio
import concurrent.futures
import io
import itertools
import os
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from PIL import Image

from bnzoo.serving.image_bytes import INPUT_NAME, MAX_PIXELS
from bnzoo.serving.server.limits import Budget, Refused, invalid

PARALLEL = max(1, (os.cpu_count() or 1) // 2)
"""Decoding threads: half of the cores, as computing must go on beside them."""

MAX_PIXELS_OF_REQUEST = 4 * MAX_PIXELS
MAX_PIXELS_IN_FLIGHT = 16 * MAX_PIXELS
"""16.8 million pixels take 0.1 to 0.35 s, so whoever is admitted waits for seconds at most."""

TURN = 2**20
"""Pixels that are decoded in one go, unless a single image has more."""

SMALLEST = 2**12
"""Pixels that an image counts as at least: a tiny one has its cost too."""

Image.MAX_IMAGE_PIXELS = None  # Pillow warns of what is refused here anyway

Decode = Callable[[list[bytes]], np.ndarray]


class Decoder:
    """Decodes beside the event loop, a few images at a time.

    Requests take turns by self-clocked fair queueing: each turn is stamped with the clock, or the
    end of the request's turn before, plus its pixels; the smallest stamp goes next and sets the
    clock. A small image waits for what is being decoded, not for the large ones in the queue.
    Before each turn a request whose client has gone away is dropped.

    To be made inside the event loop.

    Source: Golestani, A Self-Clocked Fair Queueing Scheme for Broadband Applications, INFOCOM 1994.
    """

    def __init__(self):
        self.pixels = Budget(MAX_PIXELS_IN_FLIGHT, "pixels of images")
        self._queue, self._order, self._clock = asyncio.PriorityQueue(), itertools.count(), 0
        self._threads = concurrent.futures.ThreadPoolExecutor(PARALLEL, "decode")
        self._workers = [asyncio.create_task(self._work()) for _ in range(PARALLEL)]

    async def decode(self, decode: Decode, images: list[bytes]) -> np.ndarray:
        """Return the model inputs that encoded images make.

        Args:
            decode: raises `tf.errors.InvalidArgumentError` where it cannot.
            images: the bytes of PNG or JPEG files.

        Raises:
            Refused: one is no such image, they have too many pixels, or the server is busy.
        """
        sizes = await asyncio.to_thread(lambda: [*map(_pixels_of, itertools.count(), images)])
        if sum(sizes) > MAX_PIXELS_OF_REQUEST:
            raise Refused(
                413,
                f"{INPUT_NAME}: expected at most {MAX_PIXELS_OF_REQUEST} pixels in a request, got "
                f"{sum(sizes)}; send fewer images at a time.",
            )
        stamp, parts = 0, []
        with self.pixels.share() as take:
            take(sum(sizes))
            for turn in _turns(sizes):
                stamp = max(self._clock, stamp) + sum(sizes[turn])
                parts.append(await self._in_turn(stamp, _named(decode, images, turn)))
        return np.concatenate(parts) if parts else decode([])

    async def _in_turn(self, stamp: int, call: Callable[[], np.ndarray]) -> np.ndarray:
        result = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((stamp, next(self._order), call, result))
        return await result

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            stamp, _, call, result = await self._queue.get()
            if result.done():  # its client has gone away
                continue
            self._clock = stamp
            try:
                made = await loop.run_in_executor(self._threads, call)
            except Exception as error:
                if not result.done():
                    result.set_exception(error)
            else:
                if not result.done():
                    result.set_result(made)


def _pixels_of(index: int, image: bytes) -> int:
    """Return how many pixels an image announces, at least `SMALLEST`."""
    try:
        with Image.open(io.BytesIO(image), formats=("PNG", "JPEG")) as opened:
            width, height = opened.size
    # Whatever Pillow makes of bytes that are no image: it has many exceptions for that.
    except Exception:
        raise _undecodable(index) from None
    if width * height > MAX_PIXELS:
        raise invalid(
            f"{INPUT_NAME}[{index}]: expected at most {MAX_PIXELS} pixels, got {width} x {height}."
        )
    return max(width * height, SMALLEST)


def _turns(sizes: list[int]) -> Iterator[slice]:
    """Cut images into groups of at most `TURN` pixels, or of one image."""
    start, total = 0, 0
    for index, size in enumerate(sizes):
        if index > start and total + size > TURN:
            yield slice(start, index)
            start, total = index, 0
        total += size
    if sizes:
        yield slice(start, len(sizes))


def _named(decode: Decode, images: list[bytes], turn: slice) -> Callable[[], np.ndarray]:
    """Return a call that decodes a turn's images, and names the first that cannot be decoded."""

    def call() -> np.ndarray:
        try:
            return decode(images[turn])
        except tf.errors.InvalidArgumentError:
            for index, image in enumerate(images[turn], turn.start):
                try:
                    decode([image])
                except tf.errors.InvalidArgumentError:
                    raise _undecodable(index) from None
            raise

    return call


def _undecodable(index: int) -> Refused:
    return invalid(f"{INPUT_NAME}[{index}]: expected the bytes of a whole PNG or JPEG image.")
