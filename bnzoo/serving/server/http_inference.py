"""Inference requests and their answers in the bodies of HTTP: JSON, with binary tensors behind it.

Source: https://github.com/triton-inference-server/server, `docs/protocol/extension_binary_data.md`.
"""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from bnzoo.serving.server import tensors
from bnzoo.serving.server.batcher import Answers
from bnzoo.serving.server.limits import invalid
from bnzoo.serving.server.requests import InferRequest, parse_json

JSON_SIZE = "Inference-Header-Content-Length"
"""Header of a body with binary tensors: the length of the JSON before them."""


def parse(request: Request, body: bytes) -> InferRequest:
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


def respond(name: str, version: str, asked: InferRequest, answers: Answers) -> Response:
    """Return answers in the forms that were asked for.

    Args:
        name: of the model.
        version: that answered.
        asked: the request.
        answers: arrays by the names of outputs.
    """
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
