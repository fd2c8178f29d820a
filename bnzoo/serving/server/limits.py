"""What comes over HTTP is bounded, and what is wrong with it said in one short sentence."""

import asyncio
import contextlib
import json

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import JSONResponse

READ_SECONDS = 30.0
"""How long a client may pause while it sends a request."""

DRAIN_SECONDS, DRAIN_TIMES = 5.0, 8
"""For how long, and how many times the limit, a refused request is read on.

A client that is still sending when the connection is closed never sees the answer.
"""


class RequestLimit:
    """Reads the whole body of a request before anything else does, up to a limit.

    Args:
        app: the ASGI application behind it.
        max_bytes: largest body.
    """

    def __init__(self, app, max_bytes: int):
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope, receive, send):
        """Pass a request on with its body in memory, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(dict(scope["headers"]))
            body = await self._read(receive)
        except _Refused as refused:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drain(receive), DRAIN_SECONDS)
            await _answer(send, *refused.args)
        else:
            await self._app(scope, _replay(body, receive), send)

    def _check(self, headers: dict[bytes, bytes]) -> None:
        # A few kilobytes of gzip can hold a gigabyte.
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise _Refused(415, "content-encoding: expected a body that is not compressed.")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> "_Refused":
        return _Refused(413, f"expected at most {self._max_bytes} bytes; send fewer at a time.")

    async def _read(self, receive) -> bytes:
        parts, size = [], 0
        async for part in self._parts(receive):
            parts.append(part)
            size += len(part)
            if size > self._max_bytes:
                raise self._too_large()
        return b"".join(parts)

    async def _drain(self, receive) -> None:
        size = 0
        with contextlib.suppress(_Refused):
            async for part in self._parts(receive):
                size += len(part)
                if size > DRAIN_TIMES * self._max_bytes:
                    return

    async def _parts(self, receive):
        more = True
        while more:
            try:
                message = await asyncio.wait_for(receive(), READ_SECONDS)
            except TimeoutError:
                raise _Refused(408, f"nothing was received for {READ_SECONDS:g} s.") from None
            if message["type"] == "http.disconnect":
                raise _Refused(400, "the client went away.")
            yield message.get("body", b"")
            more = message.get("more_body", False)


class _Refused(Exception):
    """Holds status and message of the answer."""


def _replay(body: bytes, receive):
    """Return an ASGI `receive` that hands out the body once."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again():
        return waiting.pop() if waiting else await receive()

    return again


async def _answer(send, status: int, error: str) -> None:
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _answer_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    """Say what does not fit the protocol, without sending the request back."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])[:200]
    return JSONResponse({"error": f"{place}: {first['msg'][:200]}"}, status_code=400)


def bound(app: FastAPI, max_bytes: int) -> None:
    """Put limits and short errors around MLServer's application, and take streaming out of it.

    A stream has begun with status 200 before its first request is looked at.
    """
    streams = ("/infer_stream", "/generate_stream")
    app.router.routes[:] = [one for one in app.router.routes if not one.path.endswith(streams)]
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_middleware(RequestLimit, max_bytes=max_bytes)
