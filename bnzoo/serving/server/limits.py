"""What requests may occupy at a time, and how one is refused that would take more."""

import asyncio
import contextlib
import http
from collections.abc import Callable, Iterator

READ_SECONDS = 30.0
"""How long the head of a request may take to arrive, and then its body."""

MAX_CONNECTIONS = 300
"""Of each of the three ports: together they stay below the 1,024 files that a process may commonly
open."""

PAUSE_SECONDS = 0.2
"""Before whoever asks for too much is told so: there are clients that try again at once, and with
a megabyte each time."""

BODIES = 8
"""Requests of the largest size whose bodies may be in memory at a time."""

LOOKS, LOOK_SECONDS = 10, 0.1
"""How often and for how long it is waited for a message over gRPC before it counts as a slow one.
If this process pauses, that is one look."""

STOPPING = "the server is stopping; ask another, or try again."


class Refused(Exception):
    """A request is not answered.

    Attributes:
        status: of HTTP; gRPC has a code for each.
        message: one sentence or two for the client.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = http.HTTPStatus(status), message

    async def pause(self) -> None:
        """Wait before it is said, if it is one of asking for too much."""
        if self.status in (413, 503):
            await asyncio.sleep(PAUSE_SECONDS)


def invalid(message: str) -> Refused:
    """Return the refusal of what does not fit the protocol or the model."""
    return Refused(400, message)


class Budget:
    """An amount that requests in flight share.

    Args:
        total: how much there is, in `unit`.
        unit: such as "bytes", for the refusal.
    """

    def __init__(self, total: int, unit: str):
        self.total, self.unit, self.used = total, unit, 0

    @contextlib.contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes some of it; at the end all that it took is given back.

        Raises:
            Refused: with 503, by the function: there is not so much left.
        """
        taken = 0

        def take(amount: int) -> None:
            nonlocal taken
            if self.used + amount > self.total:
                raise Refused(
                    503, f"the server is busy with {self.used} {self.unit}; try again in a second."
                )
            self.used, taken = self.used + amount, taken + amount

        try:
            yield take
        finally:
            self.used -= taken


class Traffic:
    """The requests that were begun, and the memory of their bodies.

    Attributes:
        max_bytes: largest request.
        bodies: budget of the bytes that were received and not yet answered.
        slow: held while a slow message over gRPC arrives, whose size is known only afterwards.
        stopping: whether new requests are refused.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes, self.stopping = max_bytes, False
        self.bodies = Budget(BODIES * max_bytes, "bytes")
        self.slow = asyncio.Semaphore(BODIES)
        self._begun, self._idle = 0, asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as begun, until it is answered.

        Raises:
            Refused: with 503, the server is stopping.
        """
        if self.stopping:
            raise Refused(503, STOPPING)
        self._begun += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._begun -= 1
            if not self._begun:
                self._idle.set()

    async def stop(self, grace: float) -> None:
        """Refuse new requests, and wait until those that were begun are answered.

        Args:
            grace: how long to wait at most, in seconds.
        """
        self.stopping = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
