"""MLServer's gRPC service with the errors that a malformed request deserves."""

import struct

import grpc
import mlserver.grpc.server
from google.protobuf.message import DecodeError
from mlserver.errors import InferenceError
from mlserver.grpc import converters
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.interceptors import PromServerInterceptor
from mlserver.grpc.servicers import InferenceServicer
from mlserver.grpc.utils import handle_mlserver_error, to_headers
from mlserver.raw import unpack
from mlserver.types import InferenceRequest
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


def _to_types(request: pb.ModelInferRequest) -> InferenceRequest:
    inputs = [converters.InferInputTensorConverter.to_types(one) for one in request.inputs]
    raw = request.raw_input_contents
    if raw and len(raw) != len(inputs):
        raise ValueError(f"expected raw contents for {len(inputs)} inputs, got {len(raw)}.")
    for given, contents in zip(inputs, raw, strict=False):
        given.data = unpack(given, contents) if given.datatype == "BYTES" else contents
    outputs = [
        converters.InferRequestedOutputTensorConverter.to_types(one) for one in request.outputs
    ]
    return InferenceRequest.model_construct(
        id=request.id,
        parameters=converters.ParametersConverter.to_types(request.parameters),
        inputs=inputs,
        outputs=outputs or None,
    )


class CheckedInterceptor(PromServerInterceptor):
    """Counts calls, as MLServer's does, and parses their messages itself.

    gRPC answers UNKNOWN where a message cannot be parsed, before any of our code is asked.
    """

    async def intercept_service(self, continuation, details):
        """Return the handler of a call, which takes the bytes of its message; none for a stream."""
        handler = await super().intercept_service(continuation, details)
        if handler is None or handler.unary_unary is None:
            return None

        async def parse_and_behave(contents: bytes, context):
            try:
                request = handler.request_deserializer(contents)
            except DecodeError:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "expected a message of the Open Inference Protocol.",
                )
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            parse_and_behave, response_serializer=handler.response_serializer
        )


def use_checked_service() -> None:
    """Let MLServer make its gRPC server with these two classes; it has no setting for that."""
    mlserver.grpc.server.InferenceServicer = CheckedServicer
    mlserver.grpc.server.PromServerInterceptor = CheckedInterceptor
