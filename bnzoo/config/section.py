"""What every section of a configuration shares: frozen, strict, described by its docstring."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A frozen part of a configuration that refuses keys it does not know.

    Types are strict (`"3"` and `True` are no integers), but whole numbers pass for floats, and
    lists for tuples, as YAML knows only lists: so these are `strict=False`, or `whole`.

    The `Attributes:` of a section's docstring are the descriptions of its keys in the JSON Schema.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Describe the section and its keys in the JSON Schema, as docstrings do."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        schema["description"] = cls.headline()
        for base in reversed(cls.__mro__[: cls.__mro__.index(Section)]):
            for name, text in _attributes(base.__doc__).items():
                schema["properties"][name]["description"] = text
        return schema

    @classmethod
    def headline(cls) -> str:
        """Return what the section is: the first line of its docstring."""
        return cls.__doc__.partition("\n")[0].rstrip(".")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        # The value of an unknown key is of no use: the message on it needs the known ones.
        known = sorted(cls.model_fields)
        return {key: value if key in known else known for key, value in values.items()}


def _attributes(docstring: str) -> dict[str, str]:
    """Return the text of each entry below `Attributes:`, where the lines of one are joined."""
    entries = docstring.partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", entries, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def whole(expected: str, advice: str) -> WrapValidator:
    """Give a field one message for all of its value, where pydantic would name each wrong entry.

    Args:
        expected: words that follow "expected".
        advice: a sentence on what the value means or how to mend it.
    """

    def check(value: Any, handler: Any) -> Any:
        try:
            return handler(tuple(value) if isinstance(value, list) else value)
        except ValidationError:
            raise ValueError(f"expected {expected}, got {value!r}. {advice}") from None

    return WrapValidator(check)


def each_once(noun: str, text: Callable[[Any], str] = repr) -> AfterValidator:
    """Refuse a list in which something is there twice.

    Args:
        noun: what it is a list of, for the message.
        text: what tells one from another, and stands in the message.
    """

    def check(values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [name for name, count in Counter(map(text, values)).items() if count > 1]
        if twice:
            raise ValueError(
                f"expected each {noun} once, got {twice[0]} twice. Remove one of them."
            )
        return values

    return AfterValidator(check)


def named(default: str | None, schemas: Any) -> BeforeValidator:
    """Let a word stand for a mapping with that name; a mapping without one has the default's."""
    usual = {"name": default} if default else {}

    def complete(value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        return usual | value if isinstance(value, dict) else value

    return BeforeValidator(complete, json_schema_input_type=str | schemas)


Seeds = Annotated[
    tuple[Seed, ...],
    Field(min_length=1),
    each_once("seed"),
    whole("a list of different whole numbers from 0, at least one", "For example [0, 1, 2]."),
]
