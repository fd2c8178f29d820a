"""The Open Inference Protocol over gRPC, with the messages that Triton's client brings along."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError, Message
from tritonclient.grpc import service_pb2 as pb

from bnzoo.serving.server import tensors
from bnzoo.serving.server.limits import (
    LOOK_SECONDS,
    LOOKS,
    READ_SECONDS,
    STOPPING,
    Refused,
    invalid,
)
from bnzoo.serving.server.requests import MAX_ITEMS, InferRequest, RequestedOutput, Tensor
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

_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Of `InferTensorContents`, by datatype; the others come as raw bytes only."""

Answer = Callable[[Any], Awaitable[Message]]


class GrpcService:
    """The calls of the protocol.

    Args:
        service: answers.
    """

    def __init__(self, service: Service):
        self._service = service

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server takes; calls that are not here are UNIMPLEMENTED."""
        calls = {
            "ServerLive": (pb.ServerLiveRequest, self.server_live),
            "ServerReady": (pb.ServerReadyRequest, self.server_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self.server_metadata),
            "ModelReady": (pb.ModelReadyRequest, self.model_ready),
            "ModelMetadata": (pb.ModelMetadataRequest, self.model_metadata),
            "ModelInfer": (pb.ModelInferRequest, self.model_infer),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self.repository_index),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self.load),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self.unload),
        }
        # For gRPC a message is a stream of one. As such its arrival can be bounded, and bytes that
        # are no message answered: it would say UNKNOWN, before any of our code is asked.
        handlers = {
            name: grpc.stream_unary_rpc_method_handler(
                self._checked(message, answer), response_serializer=_encoded
            )
            for name, (message, answer) in calls.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def server_live(self, request) -> Message:
        """Tell that the server answers."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request) -> Message:
        """Tell whether requests are answered."""
        return pb.ServerReadyResponse(ready=self._service.is_ready)

    async def server_metadata(self, request) -> Message:
        """Describe the server."""
        return pb.ServerMetadataResponse(**ABOUT)

    async def model_ready(self, request) -> Message:
        """Tell whether a model is ready."""
        ready = self._service.is_model_ready(request.name, request.version or None)
        return pb.ModelReadyResponse(ready=ready)

    async def model_metadata(self, request) -> Message:
        """Describe a model."""
        found = self._service.describe(request.name, request.version or None)
        return pb.ModelMetadataResponse(**found)

    async def repository_index(self, request) -> Message:
        """List models and versions."""
        found = self._service.repository.index(request.ready)
        return pb.RepositoryIndexResponse(models=found)

    async def load(self, request) -> Message:
        """Load what there is of a model."""
        await self._service.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request) -> Message:
        """Serve a model no more."""
        await self._service.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def model_infer(self, request) -> Message:
        """Answer an inference request."""
        version, answers = await self._service.infer(
            request.model_name, request.model_version or None, _parse(request), "grpc"
        )
        found = {name: tensors.datatype(values) for name, values in answers.items()}
        # All of them or none: clients count.
        is_raw = bool(request.raw_input_contents) or not set(found.values()) <= set(_FIELDS)
        response = pb.ModelInferResponse(
            model_name=request.model_name, model_version=version, id=request.id
        )
        for name, values in answers.items():
            output = response.outputs.add(name=name, datatype=found[name], shape=values.shape)
            if is_raw:
                response.raw_output_contents.append(tensors.to_bytes(values))
            else:
                getattr(output.contents, _FIELDS[found[name]]).extend(_listed(values))
        return response

    def _checked(self, message: type[Message], answer: Answer):
        async def behavior(
            messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext
        ) -> Message:
            traffic = self._service.traffic
            try:
                with traffic.request(), traffic.bodies.share() as take:
                    contents = await self._read(messages)
                    take(len(contents))
                    return await answer(_decoded(message, contents))
            except Refused as refused:
                await refused.pause()
                code = _CODES[refused.status]
                if refused.message == STOPPING:
                    code = grpc.StatusCode.UNAVAILABLE
                await context.abort(code, refused.message)
            except Exception:
                logger.exception("gRPC")
                await context.abort(
                    grpc.StatusCode.INTERNAL, "the server failed; its log tells more."
                )

        return behavior

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


def _encoded(message: Message) -> bytes:
    return message.SerializeToString()


def _decoded(message: type[Message], contents: bytes) -> Message:
    try:
        return message.FromString(contents)
    except DecodeError:
        raise invalid("expected a message of the Open Inference Protocol.") from None


def _parse(request) -> InferRequest:
    """Return the request that a message holds.

    Raises:
        Refused: the contents of its inputs are not where their datatypes have them.
    """
    if max(len(request.inputs), len(request.outputs)) > MAX_ITEMS:
        raise invalid(f"expected at most {MAX_ITEMS} inputs and outputs.")
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise invalid(f"expected raw contents for {len(request.inputs)} inputs, got {len(raw)}.")
    inputs = []
    for place, given in enumerate(request.inputs):
        inputs.append(
            Tensor.model_construct(
                name=given.name,
                shape=list(given.shape),
                datatype=given.datatype,
                data=_contents(given, raw[place] if raw else None),
            )
        )
    outputs = [RequestedOutput.model_construct(name=one.name) for one in request.outputs]
    return InferRequest.model_construct(inputs=inputs, outputs=outputs)


def _contents(given, raw: bytes | None) -> bytes | list:
    field = _FIELDS.get(given.datatype)
    filled = [one.name for one, _ in given.contents.ListFields()]
    if filled if raw is not None else filled not in ([], [field]):
        raise invalid(
            f"{given.name}: expected {given.datatype!r:.80} in {field or 'raw_input_contents'}, "
            f"got {' and '.join(filled)}{'' if raw is None else ' beside raw_input_contents'}."
        )
    if raw is not None:
        return raw
    return list(getattr(given.contents, field)) if field else []


def _listed(values: np.ndarray) -> list:
    if values.dtype.kind != "O":
        return values.ravel().tolist()
    return [one if isinstance(one, bytes) else one.encode() for one in values.flat]
