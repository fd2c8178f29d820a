"""Inference requests of the Open Inference Protocol, whichever way they come."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from bnzoo.serving.server.limits import invalid

MAX_ITEMS = 64
"""Inputs, outputs and dimensions that a request may name: no model here has as many."""

MAX_PARTS = 2**20
"""Lists, objects and strings in a request. A million are read in less than a second, in which
nobody else is answered; ten megabytes can hold five times as many."""

Size = Annotated[int, Field(strict=True, ge=0, lt=2**63)]


class Tensor(BaseModel):
    """An input: its `data` is a list, flat or nested, or the bytes of the array."""

    name: str
    shape: list[Size] = Field(max_length=MAX_ITEMS)
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = None


class RequestedOutput(BaseModel):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """What a client asks a model; `outputs` names those that it wants, in their order."""

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[Tensor] = Field(max_length=MAX_ITEMS)
    outputs: list[RequestedOutput] | None = Field(None, max_length=MAX_ITEMS)


def parse_json(body: bytes) -> InferRequest:
    """Return the request that JSON holds.

    Raises:
        Refused: it is none; the first thing that is wrong is said, in one short sentence.
    """
    if body.count(b"[") + body.count(b"{") + body.count(b'"') // 2 > MAX_PARTS:
        raise invalid(
            f"expected at most {MAX_PARTS} lists, objects and strings; send data as a flat list, "
            "in binary form, or less at a time."
        )
    try:
        return InferRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:200]
        message = first["msg"][:200]
        raise invalid(f"{place}: {message}" if place else message) from None


def the_only_input(request: InferRequest, known: list[str]) -> Tensor:
    """Return the input of a request.

    Raises:
        Refused: there is none, there are several, or it has another name.
    """
    names = [one.name for one in request.inputs]
    if len(names) != 1 or names[0] not in known:
        raise invalid(
            f"inputs: expected exactly one, named {' or '.join(known)}, got {names!r:.80}."
        )
    return request.inputs[0]


def wanted_outputs(request: InferRequest, known: list[str]) -> list[str]:
    """Return the names of the outputs that a request asks for, in its order; all if it names none.

    Raises:
        Refused: one is unknown, or asked for twice.
    """
    names = [one.name for one in request.outputs or []]
    if not set(names) <= set(known) or len(set(names)) < len(names):
        raise invalid(
            f"outputs: expected some of {', '.join(known)}, each once, got {names!r:.80}."
        )
    return names or known
