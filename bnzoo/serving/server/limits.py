"""What comes over HTTP is bounded, and what is wrong with it said in one short sentence."""

import asyncio

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

READ_SECONDS = 30.0
"""How long a client may pause while it sends a request."""


class RequestLimit:
    """Bounds the body of each request; whoever reads more of it gets an `HTTPException`.

    The answer goes out at once. uvicorn then drops what the client is still sending.

    Args:
        app: the ASGI application behind it.
        max_bytes: largest body.
    """

    def __init__(self, app, max_bytes: int):
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope, receive, send):
        """Pass a request on, with a `receive` that checks what it receives."""
        if scope["type"] == "http":
            receive = self._checked(Headers(scope=scope), receive)
        await self._app(scope, receive, send)

    def _checked(self, headers: Headers, receive):
        announced, size = int(headers.get("content-length", 0)), 0

        async def checked():
            nonlocal size
            # A few kilobytes of gzip can hold a gigabyte.
            if headers.get("content-encoding", "identity").lower() != "identity":
                raise HTTPException(
                    415, "content-encoding: expected a body as it is, uncompressed."
                )
            try:
                message = await asyncio.wait_for(receive(), READ_SECONDS)
            except TimeoutError:
                raise HTTPException(408, f"nothing was received for {READ_SECONDS:g} s.") from None
            size += len(message.get("body", b""))
            if max(size, announced) > self._max_bytes:
                raise HTTPException(
                    413, f"expected at most {self._max_bytes} bytes; send fewer at a time."
                )
            return message

        return checked


async def _answer_refused(request: Request, error: HTTPException) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


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
    app.add_exception_handler(HTTPException, _answer_refused)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_middleware(RequestLimit, max_bytes=max_bytes)
