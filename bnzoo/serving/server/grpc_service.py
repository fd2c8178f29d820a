"""MLServer's gRPC service with the errors that a malformed request deserves."""

import struct

import grpc
import mlserver.grpc.server
from google.protobuf.message import DecodeError
from mlserver.errors import InferenceError
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.converters import (
    InferInputTensorConverter,
    InferRequestedOutputTensorConverter,
    ParametersConverter,
)
from mlserver.grpc.dataplane_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from mlserver.grpc.servicers import InferenceServicer
from mlserver.grpc.utils import handle_mlserver_error, to_headers
from mlserver.raw import unpack
from mlserver.types import InferenceRequest, RequestInput
from mlserver.utils import insert_headers


class CheckedServicer(InferenceServicer):
    """Answers INVALID_ARGUMENT and NOT_FOUND where MLServer has INTERNAL and UNKNOWN.

    Raw contents stay bytes: MLServer would make a Python number of each value.
    """

    def _InsertHeaders(self, request: pb.ModelInferRequest, context) -> InferenceRequest:
        try:
            payload = _to_types(request)
        # Raw contents that do not match what is said about them, or no such datatype.
        except (struct.error, ValueError, KeyError, OverflowError, TypeError) as error:
            raise InferenceError(f"the request cannot be read: {error}") from error
        return insert_headers(payload, to_headers(context))

    @handle_mlserver_error
    async def ModelReady(self, request: pb.ModelReadyRequest, context) -> pb.ModelReadyResponse:
        """Tell whether a model is ready; NOT_FOUND if there is none."""
        return await super().ModelReady(request, context)

    async def ModelStreamInfer(self, requests_stream, context):
        """Refuse: nothing here is a stream."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "use ModelInfer, once per request.")
        yield


def _to_types(request: pb.ModelInferRequest) -> InferenceRequest:
    inputs = [InferInputTensorConverter.to_types(one) for one in request.inputs]
    raw = list(request.raw_input_contents)
    if raw:
        if len(raw) != len(inputs):
            raise ValueError(f"expected raw contents for {len(inputs)} inputs, got {len(raw)}.")
        for given, contents in zip(inputs, raw, strict=True):
            _take_raw(given, contents)
    outputs = [InferRequestedOutputTensorConverter.to_types(one) for one in request.outputs]
    return InferenceRequest.model_construct(
        id=request.id,
        parameters=ParametersConverter.to_types(request.parameters),
        inputs=inputs,
        outputs=outputs or None,
    )


def _take_raw(given: RequestInput, contents: bytes) -> None:
    given.data = unpack(given, contents) if given.datatype == "BYTES" else contents


def use_checked_service() -> None:
    """Let MLServer make its gRPC server with `CheckedServicer`; it has no setting for that."""
    mlserver.grpc.server.InferenceServicer = CheckedServicer
    mlserver.grpc.server.add_GRPCInferenceServiceServicer_to_server = _add_to_server


def _add_to_server(servicer: InferenceServicer, server) -> None:
    """Add the service to a server, with bytes that are no message refused as such."""
    add_GRPCInferenceServiceServicer_to_server(servicer, _Tolerant(server))


class _Tolerant:
    """Stands in for a gRPC server while a service is added to it, and changes its methods.

    gRPC answers UNKNOWN where a message cannot be parsed, before any of our code is asked.
    """

    def __init__(self, server):
        self._server = server

    def add_generic_rpc_handlers(self, handlers) -> None:
        """Nothing: the same methods come a second time, one by one."""

    def add_registered_method_handlers(self, service: str, handlers: dict) -> None:
        """Add methods that parse their messages late."""
        changed = {name: _parsing_late(handler) for name, handler in handlers.items()}
        generic = grpc.method_handlers_generic_handler(service, changed)
        self._server.add_generic_rpc_handlers((generic,))


def _parsing_late(handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    parse, behave = handler.request_deserializer, handler.unary_unary
    if behave is None:  # the stream, which is refused as it is
        return handler

    async def parse_and_behave(contents: bytes, context):
        try:
            request = parse(contents)
        except DecodeError:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                "expected a message of the Open Inference Protocol.",
            )
        return await behave(request, context)

    return grpc.unary_unary_rpc_method_handler(
        parse_and_behave, response_serializer=handler.response_serializer
    )
