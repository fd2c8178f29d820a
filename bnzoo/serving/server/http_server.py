"""uvicorn with bounded connections, and without a hand on the signals."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bnzoo.serving.server.limits import MAX_CONNECTIONS, READ_SECONDS

MAX_HEAD = 2**16
"""Bytes of a request's line and headers."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection: closed if there are too many, or a request's head is too slow or too long.

    So is one that does not read its answers, or after one begins no request, whatever else it
    sends. uvicorn bounds none of these. It stops reading a body that nobody asks for.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin, unless there are too many."""
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        super().data_received(data)
        self._head += len(data)
        if self._awaits_head and self._head > MAX_HEAD:
            self.transport.close()

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever, whatever it asks for meanwhile."""
        super().pause_writing()
        self._unread = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._unread.cancel()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._deadline.cancel()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """Begin to answer a request."""
        self._awaits_head = False
        self._deadline.cancel()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """End a request, or begin the next one if it has come already."""
        if not self.pipeline:
            self._deadline.cancel()
            self._set_deadline()
        super().on_response_complete()

    def _expect_head(self) -> None:
        self._awaits_head, self._head = True, 0
        self._set_deadline()

    def _set_deadline(self) -> None:
        # Not `close`: that waits for the client to read what was written.
        self._deadline = self.loop.call_later(READ_SECONDS, self.transport.abort)


class HttpServer(uvicorn.Server):
    """A server of one application on a socket that listens already.

    Args:
        app: the ASGI application.
        listening: the socket.
    """

    def __init__(self, app, listening: socket.socket):
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,  # what was begun has had its time before
            )
        )
        self._listening = listening

    async def serve(self) -> None:
        """Answer until `should_exit` is set."""
        await super().serve([self._listening])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to whoever runs several servers."""
        yield
