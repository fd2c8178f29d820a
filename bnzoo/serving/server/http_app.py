"""The Open Inference Protocol over HTTP, with the extension for binary tensors.

Source: https://github.com/kserve/open-inference-protocol, `specification/protocol`, and Triton's
extensions, https://github.com/triton-inference-server/server, `docs/protocol`:
`extension_binary_data.md` and `extension_model_repository.md`.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bnzoo.serving.server import tensors
from bnzoo.serving.server.batcher import Answers
from bnzoo.serving.server.limits import READ_SECONDS, Refused, invalid
from bnzoo.serving.server.requests import InferRequest, parse_json
from bnzoo.serving.server.service import ABOUT, Service

JSON_SIZE = "Inference-Header-Content-Length"
"""Header of a body with binary tensors: the length of the JSON before them."""


class HttpApp:
    """The routes of the protocol.

    Args:
        service: answers.
        hosts: names by which the server may be called when models are loaded and unloaded.
    """

    def __init__(self, service: Service, hosts: set[str]):
        self._service, self._hosts = service, hosts

    def app(self) -> Starlette:
        """Return the ASGI application."""
        model, control = "/v2/models/{name}", "/v2/repository/models/{name}"
        routes = [
            Route("/v2", self.about),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            *(
                Route(f"{path}{action}", endpoint, methods=[method])
                for path in (model, f"{model}/versions/{{version}}")
                for action, endpoint, method in (
                    ("", self.describe, "GET"),
                    ("/ready", self.model_ready, "GET"),
                    ("/infer", self.infer, "POST"),
                )
            ),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route(f"{control}/load", self.load, methods=["POST"]),
            Route(f"{control}/unload", self.unload, methods=["POST"]),
        ]
        handlers = {
            Refused: _refuse,
            HTTPException: _answer_other,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_error,
        }
        return Starlette(routes=routes, exception_handlers=handlers)

    async def about(self, request: Request) -> Response:
        """Describe the server."""
        return _json(ABOUT)

    async def live(self, request: Request) -> Response:
        """Tell that the server answers."""
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """Tell whether requests are answered."""
        ready = self._service.is_ready
        return _json({"ready": ready}, 200 if ready else 503)

    async def model_ready(self, request: Request) -> Response:
        """Tell whether a model is ready."""
        ready = self._service.is_model_ready(*_model_of(request))
        return _json({"ready": ready}, 200 if ready else 404)

    async def describe(self, request: Request) -> Response:
        """Describe a model."""
        return _json(self._service.describe(*_model_of(request)))

    async def index(self, request: Request) -> Response:
        """List models and versions, all or with `{"ready": true}` those that are loaded."""
        body = await _read_all(request, 2**10)
        try:
            asked = orjson.loads(body or b"{}")
            only_ready = bool(asked.get("ready"))
        except (ValueError, AttributeError):
            raise invalid('expected no body, or JSON: {"ready": true}.') from None
        return _json(self._service.repository.index(only_ready))

    async def load(self, request: Request) -> Response:
        """Load what there is of a model."""
        self._check_caller(request)
        await self._service.load(request.path_params["name"])
        return _json({})

    async def unload(self, request: Request) -> Response:
        """Serve a model no more."""
        self._check_caller(request)
        await self._service.unload(request.path_params["name"])
        return _json({})

    async def infer(self, request: Request) -> Response:
        """Answer an inference request."""
        traffic = self._service.traffic
        with traffic.request(), traffic.bodies.share() as take:
            asked = _parse(request, await _read_all(request, traffic.max_bytes, take))
            answer = self._service.infer(*_model_of(request), asked, "http")
            version, answers = await _unless_gone(request, answer)
            return _answered(request.path_params["name"], version, asked, answers)

    def _check_caller(self, request: Request) -> None:
        """Refuse pages in a browser: they may be a stranger's, and reach this machine's ports."""
        called = request.headers.get("host", "")
        origin, host = request.headers.get("origin", f"//{called}"), _host_of(called)
        if origin.partition("//")[2] != called:
            raise Refused(403, f"origin: models are not controlled from {origin!r:.80}.")
        if host not in self._hosts and not _is_address(host):
            raise Refused(403, f"host: expected this server's name or address, got {host!r:.80}.")
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
        if kind.lower() != "application/json":
            raise Refused(415, f"content-type: expected application/json, got {kind!r:.80}.")


def _host_of(address: str) -> str:
    try:
        return urlsplit(f"//{address}").hostname or ""
    except ValueError:  # a bracket that is not closed
        return ""


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
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


def _parse(request: Request, body: bytes) -> InferRequest:
    """Return an inference request; its binary tensors lie behind its JSON.

    Raises:
        Refused: the body is no such request.
    """
    size = request.headers.get(JSON_SIZE, str(len(body)))
    # Python reads no number of thousands of digits.
    if len(size) > 20 or not size.isdecimal() or int(size) > len(body):
        raise invalid(
            f"{JSON_SIZE}: expected at most the {len(body)} bytes sent, got {size!r:.80}."
        )
    asked, binary = parse_json(body[: int(size)]), memoryview(body)[int(size) :]
    for given in asked.inputs:
        length = given.parameters.get("binary_data_size")
        if length is None:
            continue
        if type(length) is not int or not 0 <= length <= len(binary) or given.data is not None:
            raise invalid(
                f"{given.name}: expected binary_data_size bytes behind the JSON, no data."
            )
        given.data, binary = binary[:length], binary[length:]
    if binary:
        raise invalid(f"expected as many bytes as binary_data_size says, got {len(binary)} more.")
    return asked


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


def _answered(name: str, version: str, asked: InferRequest, answers: Answers) -> Response:
    in_binary = {one.name: one.parameters.get("binary_data") for one in asked.outputs or []}
    default = asked.parameters.get("binary_data_output")
    outputs, binary = [], []
    for output, values in answers.items():
        described = {"name": output, "datatype": tensors.datatype(values), "shape": values.shape}
        if in_binary.get(output, default) is True:
            binary.append(tensors.to_bytes(values))
            described["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            described["data"] = tensors.to_list(values)
        outputs.append(described)
    answer = {"model_name": name, "model_version": version, "outputs": outputs}
    if asked.id is not None:
        answer["id"] = asked.id
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return Response(head, media_type="application/json")
    headers = {JSON_SIZE: str(len(head))}
    return Response(b"".join([head, *binary]), 200, headers, "application/octet-stream")


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


async def _refuse(request: Request, refused: Refused) -> Response:
    await refused.pause()
    headers = {"Retry-After": "1"} if refused.status == 503 else None
    return _json({"error": refused.message}, refused.status, headers)


async def _answer_other(request: Request, error: HTTPException) -> Response:
    return _json({"error": error.detail}, error.status_code, error.headers)


async def _answer_nobody(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # as nginx has it: the client has closed the connection


async def _answer_error(request: Request, error: Exception) -> Response:
    return _json({"error": "the server failed; its log tells more."}, 500)  # uvicorn logs it
