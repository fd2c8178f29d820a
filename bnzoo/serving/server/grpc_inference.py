"""Inference requests and their answers as messages of gRPC."""

from typing import Any

import numpy as np
from google.protobuf.message import Message

from bnzoo.serving.server import tensors
from bnzoo.serving.server.batcher import Answers
from bnzoo.serving.server.limits import invalid
from bnzoo.serving.server.requests import MAX_ITEMS, InferRequest, RequestedOutput, Tensor

FIELDS = {
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


def parse(request: Message) -> InferRequest:
    """Return the request that a message holds.

    Raises:
        Refused: the contents of its inputs are not where their datatypes have them.
    """
    if max(len(request.inputs), len(request.outputs)) > MAX_ITEMS:
        raise invalid(f"expected at most {MAX_ITEMS} inputs and outputs.")
    raw = list(request.raw_input_contents) or [None] * len(request.inputs)
    if len(raw) != len(request.inputs):
        raise invalid(f"expected raw contents for {len(request.inputs)} inputs, got {len(raw)}.")
    inputs = [
        Tensor.model_construct(
            name=given.name,
            shape=list(given.shape),
            datatype=given.datatype,
            data=_contents(given, contents),
        )
        for given, contents in zip(request.inputs, raw, strict=True)
    ]
    outputs = [RequestedOutput.model_construct(name=one.name) for one in request.outputs]
    return InferRequest.model_construct(inputs=inputs, outputs=outputs)


def _contents(given: Message, raw: bytes | None) -> bytes | list:
    field = FIELDS.get(given.datatype)
    filled = [one.name for one, _ in given.contents.ListFields()]
    if filled if raw is not None else filled not in ([], [field]):
        raise invalid(
            f"{given.name}: expected {given.datatype!r:.80} in {field or 'raw_input_contents'}, "
            f"got {' and '.join(filled)}{'' if raw is None else ' beside raw_input_contents'}."
        )
    if raw is not None:
        return raw
    return list(getattr(given.contents, field)) if field else []


def respond(request: Message, version: str, answers: Answers) -> dict[str, Any]:
    """Return the fields of a response: bytes if the request held bytes, else lists.

    Args:
        request: a `ModelInferRequest`.
        version: that answered.
        answers: arrays by the names of outputs.
    """
    datatypes = [tensors.datatype(values) for values in answers.values()]
    outputs = [
        {"name": name, "datatype": datatype, "shape": values.shape}
        for datatype, (name, values) in zip(datatypes, answers.items(), strict=True)
    ]
    response = {"model_name": request.model_name, "model_version": version, "id": request.id}
    # All of them in bytes or none: clients count.
    if request.raw_input_contents or not set(datatypes) <= FIELDS.keys():
        raw = [tensors.to_bytes(values) for values in answers.values()]
        return response | {"outputs": outputs, "raw_output_contents": raw}
    for output, values in zip(outputs, answers.values(), strict=True):
        output["contents"] = {FIELDS[output["datatype"]]: _listed(values)}
    return response | {"outputs": outputs}


def _listed(values: np.ndarray) -> list:
    listed = values.ravel().tolist()
    return [tensors.as_bytes(one) for one in listed] if values.dtype.kind == "O" else listed
