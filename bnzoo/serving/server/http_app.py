"""The Open Inference Protocol over HTTP.

Source: https://github.com/kserve/open-inference-protocol, `specification/protocol`, and of the
index, loading and unloading https://github.com/triton-inference-server/server,
`docs/protocol/extension_model_repository.md`.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bnzoo.serving.server import http_inference
from bnzoo.serving.server.limits import READ_SECONDS, Refused, invalid
from bnzoo.serving.server.service import ABOUT, Service

READ_ON_SECONDS = 1.0
"""How long a refused request may go on arriving before it is answered."""


class HttpApp:
    """The routes of the protocol.

    Args:
        service: answers.
        hosts: names by which the server may be called when models are loaded and unloaded.
    """

    def __init__(self, service: Service, hosts: set[str]):
        self._service, self._hosts = service, {host.lower() for host in hosts}

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route("/v2", self.about),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route("/v2/repository/models/{name}/load", self.load, methods=["POST"]),
            Route("/v2/repository/models/{name}/unload", self.unload, methods=["POST"]),
        ]
        for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            routes.append(Route(model, self.describe))
            routes.append(Route(f"{model}/ready", self.model_ready))
            routes.append(Route(f"{model}/infer", self.infer, methods=["POST"]))
        handlers = {
            Refused: self._refuse,
            HTTPException: _answer_other,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_error,
        }
        return Starlette(routes=routes, exception_handlers=handlers)

    async def about(self, request: Request) -> Response:
        """Describe the server."""
        return JSONResponse(ABOUT)

    async def live(self, request: Request) -> Response:
        """Tell that the server answers."""
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        """Tell whether requests are answered."""
        ready = self._service.is_ready
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def model_ready(self, request: Request) -> Response:
        """Tell whether a model is ready."""
        ready = self._service.is_model_ready(*_model_of(request))
        return JSONResponse({"ready": ready}, 200 if ready else 404)

    async def describe(self, request: Request) -> Response:
        """Describe a model."""
        return JSONResponse(self._service.describe(*_model_of(request)))

    async def index(self, request: Request) -> Response:
        """List models and versions, all or with `{"ready": true}` those that are loaded."""
        body = await _read_all(request, 2**10)
        try:
            only_ready = bool(orjson.loads(body or b"{}").get("ready"))
        except (ValueError, AttributeError):
            raise invalid('expected no body, or JSON: {"ready": true}.') from None
        return JSONResponse(self._service.repository.index(only_ready))

    async def load(self, request: Request) -> Response:
        """Load what there is of a model."""
        self._check_caller(request)
        await self._service.load(request.path_params["name"])
        return JSONResponse({})

    async def unload(self, request: Request) -> Response:
        """Serve a model no more."""
        self._check_caller(request)
        await self._service.unload(request.path_params["name"])
        return JSONResponse({})

    async def infer(self, request: Request) -> Response:
        """Answer an inference request."""
        traffic, (name, version) = self._service.traffic, _model_of(request)
        with traffic.request(), traffic.bodies.share() as take:
            body = await _read_all(request, traffic.max_bytes, take)
            asked = http_inference.parse(request, body)
            answer = self._service.infer(name, version, asked, "http")
            version, answers = await _unless_gone(request, answer)
            return http_inference.respond(name, version, asked, answers)

    async def _refuse(self, request: Request, refused: Refused) -> Response:
        self._service.metrics.refused("http", refused.status.value)
        if refused.status != 408:  # that one has waited for it
            await _read_on(request)
        await refused.pause()
        headers = {"Retry-After": "1"} if refused.status == 503 else None
        return JSONResponse({"error": refused.message}, refused.status, headers)

    def _check_caller(self, request: Request) -> None:
        """Refuse pages in a browser: they may be a stranger's, and reach this machine's ports."""
        host = request.headers.get("host", "")
        origin = request.headers.get("origin", f"//{host}")
        if origin.partition("//")[2] != host:
            raise Refused(403, f"origin: models are not controlled from {origin!r:.80}.")
        if not self._is_ours(host):
            raise Refused(403, f"host: expected this server's name or address, got {host!r:.80}.")
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
        if kind.lower() != "application/json":
            raise Refused(415, f"content-type: expected application/json, got {kind!r:.80}.")

    def _is_ours(self, host: str) -> bool:
        with contextlib.suppress(ValueError):  # a bracket that is not closed, no address
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._hosts or bool(ipaddress.ip_address(name))
        return False


def _model_of(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.path_params.get("version")


async def _read_all(request: Request, limit: int, take: Callable[[int], None] = int) -> bytes:
    """Return the body of a request.

    Args:
        request: not read yet.
        limit: most bytes.
        take: called with the size of each part, may refuse it.

    Raises:
        Refused: it is compressed, too large, too slow, or refused by `take`.
    """
    headers = request.headers
    # A few kilobytes of gzip can hold a gigabyte.
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "content-encoding: expected a body as it is, uncompressed.")
    parts, size, announced = [], 0, int(headers.get("content-length", 0))
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for part in request.stream():
                size += len(part)
                if max(size, announced) > limit:
                    raise Refused(413, f"expected at most {limit} bytes; send fewer at a time.")
                take(len(part))
                parts.append(part)
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {READ_SECONDS:g} s.") from None
    return b"".join(parts)


async def _unless_gone(request: Request, answer: Coroutine) -> Any:
    """Return what `answer` returns; it is cancelled when the client goes away.

    Raises:
        ClientDisconnect: it has gone away.
    """
    work, gone = asyncio.ensure_future(answer), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        gone.cancel()
        # A refusal refers to this frame, and the task to the refusal: a ring that holds the body.
        del work


async def _read_on(request: Request) -> None:
    """Drop what is still coming, for a moment: closing with bytes unread would lose the answer."""
    with contextlib.suppress(TimeoutError, RuntimeError):  # RuntimeError: all was read before
        async with asyncio.timeout(READ_ON_SECONDS):
            async for _ in request.stream():
                pass


async def _answer_other(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _answer_nobody(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # as nginx has it: the client has closed the connection


async def _answer_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the server failed; its log tells more."}, 500)  # uvicorn logs it
