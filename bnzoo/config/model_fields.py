"""Types of model parameters: choices, lists of sizes, shapes.

Lists and shapes have one message for the whole value; pydantic would name each wrong entry.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BeforeValidator

Placement = Literal["none", "before", "after"]
Initialization = Literal["keras", "torch"]
# Keras' activations that work on each value alone and need no argument.
Activation = Literal[
    "elu",
    "gelu",
    "leaky_relu",
    "linear",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
]


def refuse(expected: str, received: Any, advice: str) -> NoReturn:
    """Raise the error of a field: what was expected, what was received, what to do.

    Args:
        expected: words that follow "expected".
        received: the value as the user gave it.
        advice: a sentence on what the value means or how to mend it.
    """
    shown = list(received) if isinstance(received, tuple) else received
    raise ValueError(f"expected {expected}, got {shown!r}. {advice}")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def sizes(meaning: str, count: int | None = None) -> BeforeValidator:
    """Accept a list of positive integers.

    Args:
        meaning: the sentence that explains an entry.
        count: how many entries the network has; `None` is one or more.
    """
    expected = "a list of positive integers"
    entries = "one entry" if count == 1 else f"{count} entries"

    def check(value: Any) -> Any:
        if not _is_list(value) or not value or not all(_is_size(size) for size in value):
            refuse(expected, value, meaning)
        if count is not None and len(value) != count:
            refuse(f"{expected} with {entries}", value, meaning)
        return tuple(value)

    return BeforeValidator(check)


def _shape(expected: str, accepts: Callable[[Any], bool]) -> BeforeValidator:
    """Accept a shape without the batch, from a list or a tuple."""

    def check(value: Any) -> Any:
        if value is None:  # left open: from the data
            return value
        if not _is_list(value) or not accepts(value):
            refuse(expected, value, "It is the shape of one sample, without the batch.")
        return tuple(value)

    return BeforeValidator(check)


def _is_static_shape(value: Sequence[Any]) -> bool:
    return len(value) > 0 and all(_is_size(size) for size in value)


def _is_sequence_shape(value: Sequence[Any]) -> bool:
    return len(value) == 2 and (value[0] is None or _is_size(value[0])) and _is_size(value[1])


Shape = Annotated[tuple[int | None, ...], _shape("a shape of positive integers", _is_static_shape)]
ImageShape = Annotated[
    tuple[int | None, ...],
    _shape(
        "(height, width, channels) as three positive integers",
        lambda value: len(value) == 3 and _is_static_shape(value),
    ),
]
SequenceShape = Annotated[
    tuple[int | None, ...],
    _shape(
        "(steps, features) as positive integers, or None steps for any length",
        _is_sequence_shape,
    ),
]
