"""The Open Inference Protocol over gRPC, with the messages that Triton's client brings along."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from operator import methodcaller

import grpc
from google.protobuf.message import DecodeError, Message
from grpc.aio import ServicerContext
from tritonclient.grpc import service_pb2 as pb

from bnzoo.serving.server import grpc_inference
from bnzoo.serving.server.limits import (
    LOOK_SECONDS,
    LOOKS,
    READ_SECONDS,
    STOPPING,
    Refused,
    invalid,
)
from bnzoo.serving.server.service import ABOUT, Service

logger = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.FAILED_PRECONDITION,
    503: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

Call = Callable[[Message], dict | Awaitable[dict | None]]
"""From a request to the fields of its response."""


class GrpcService:
    """The calls of the protocol.

    Args:
        service: answers.
    """

    def __init__(self, service: Service):
        self._service = service

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server takes; calls that are not here are UNIMPLEMENTED."""
        service = self._service
        calls = {
            "ServerLive": lambda asked: {"live": True},
            "ServerReady": lambda asked: {"ready": service.is_ready},
            "ServerMetadata": lambda asked: ABOUT,
            "ModelReady": lambda asked: {"ready": service.is_model_ready(*_model_of(asked))},
            "ModelMetadata": lambda asked: service.describe(*_model_of(asked)),
            "ModelInfer": self._infer,
            "RepositoryIndex": lambda asked: {"models": service.repository.index(asked.ready)},
            "RepositoryModelLoad": lambda asked: service.load(asked.model_name),
            "RepositoryModelUnload": lambda asked: service.unload(asked.model_name),
        }
        # For gRPC a message is a stream of one. As such its arrival can be bounded, and bytes that
        # are no message answered: it would say UNKNOWN, before any of our code is asked.
        handlers = {
            name: grpc.stream_unary_rpc_method_handler(
                partial(self._behave, name, call),
                response_serializer=methodcaller("SerializeToString"),
            )
            for name, call in calls.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def _infer(self, asked: Message) -> dict:
        model = asked.model_name, asked.model_version or None
        request = grpc_inference.parse(asked)
        version, answers = await self._service.infer(*model, request, "grpc")
        return grpc_inference.respond(asked, version, answers)

    async def _behave(
        self, name: str, call: Call, messages: AsyncIterator[bytes], context: ServicerContext
    ) -> Message:
        try:
            return await self._answer(name, call, messages)
        except Refused as refused:
            self._service.metrics.refused("grpc", refused.status.value)
            await refused.pause()
            is_end = refused.message == STOPPING
            code = grpc.StatusCode.UNAVAILABLE if is_end else _CODES[refused.status]
            await context.abort(code, refused.message)
        except Exception:
            logger.exception("gRPC")
            words = "the server failed; its log tells more."
            await context.abort(grpc.StatusCode.INTERNAL, words)

    async def _answer(self, name: str, call: Call, messages: AsyncIterator[bytes]) -> Message:
        traffic = self._service.traffic
        with traffic.request(), traffic.bodies.share() as take:
            contents = await self._read(messages)
            take(len(contents))
            answer = call(_decoded(getattr(pb, f"{name}Request"), contents))
            answer = await answer if inspect.isawaitable(answer) else answer
            return getattr(pb, f"{name}Response")(**(answer or {}))

    async def _read(self, messages: AsyncIterator[bytes]) -> bytes:
        arriving = asyncio.ensure_future(anext(messages, None))
        try:
            for _ in range(LOOKS):
                await asyncio.wait((arriving,), timeout=LOOK_SECONDS)
                if arriving.done():
                    break
            else:
                await self._wait_for_slow(arriving)
            if (contents := arriving.result()) is None:
                raise invalid("expected a message, got none.")
            return contents
        finally:
            arriving.cancel()

    async def _wait_for_slow(self, arriving: asyncio.Future) -> None:
        slow = self._service.traffic.slow
        if slow.locked():  # not in a queue: what has arrived of it is in memory
            raise Refused(503, "too many messages arrive slowly; try again in a second.")
        try:
            async with slow, asyncio.timeout(READ_SECONDS):
                await asyncio.wait((arriving,))
        except TimeoutError:
            raise Refused(408, f"the message did not arrive within {READ_SECONDS:g} s.") from None


def _model_of(asked: Message) -> tuple[str, str | None]:
    return asked.name, asked.version or None


def _decoded(message: type[Message], contents: bytes) -> Message:
    try:
        return message.FromString(contents)
    except DecodeError:
        raise invalid("expected a message of the Open Inference Protocol.") from None
