"""Pydantic's errors in our words: where, what was expected, what was received, what to do."""

import copy
import functools
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bnzoo.errors import InputError, close_words, nearest

_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "null",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "literal_error": "{expected}",
}


Checked = TypeVar("Checked", bound=BaseModel)


def check(schema: type[Checked], tree: dict, source: str) -> Checked:
    """Check a plain mapping against a schema.

    Args:
        schema: the section it should be.
        tree: the mapping, as the user wrote it.
        source: what to call it in messages: the file's name, or the section's.

    Raises:
        InputError: names every problem, one per line: `source: dotted.path: expected ..., got ...`.
    """
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        lines = _describe(error, schema, tree)
        lines += [line for line in _behind_unknown_names(error, schema, tree) if line not in lines]
        raise InputError("\n".join(f"{source}: {line}" for line in lines)) from None


def readable(schema: type[Checked], section: Any) -> Checked | None:
    """Return a section, or None if it has problems of its own, which are reported as such.

    Args:
        schema: what it is to be.
        section: as it was read.
    """
    try:
        return check(schema, section, "") if isinstance(section, dict) else None
    except InputError:
        return None


def _describe(error: ValidationError, schema: type[BaseModel], tree: dict) -> list[str]:
    merged: dict[str, list[Mapping]] = {}
    for item in error.errors():
        merged.setdefault(_dotted(item["loc"], tree), []).append(item)
    return [_sentence(path, items, schema) for path, items in merged.items()]


def _behind_unknown_names(error: ValidationError, schema: type[BaseModel], tree: dict) -> list[str]:
    """Return what else is wrong in sections whose `name` is a slip of a known one.

    The name chooses the schema, so pydantic looks at nothing else there.
    """
    mended = copy.deepcopy(tree)
    paths = []
    for item in error.errors():
        if item["type"] == "union_tag_invalid":
            close = close_words(item["ctx"]["tag"], _words(item["ctx"]["expected_tags"]))
            path = _dotted(item["loc"], tree)
            if close and path:
                functools.reduce(dict.get, path.split("."), mended)["name"] = close[0]
                paths.append(path)
    try:
        schema.model_validate(mended)
    except ValidationError as second:
        lines = _describe(second, schema, mended)
        return [line for line in lines if line.startswith(tuple(f"{path}." for path in paths))]
    return []


def _dotted(location: Iterable[str | int], tree: Any) -> str:
    """Return the path as the user would type it.

    Pydantic puts the chosen member of a tagged union, and names of validators, into the path.
    """
    keys = [key for key in location if not str(key).startswith("function-")]
    path, node = [], tree
    for position, key in enumerate(keys):
        if isinstance(node, dict):
            is_last = position == len(keys) - 1
            is_tag = key == node.get("name") and (not is_last or key not in node)
            if is_tag or (key not in node and not is_last):
                continue
            node = node.get(key)
        elif isinstance(node, list | tuple) and isinstance(key, int) and key < len(node):
            node = node[key]
        else:
            continue
        path.append(str(key))
    return ".".join(path)


def _sentence(path: str, items: list[Mapping], schema: type[BaseModel]) -> str:
    prefix = f"{path}: " if path else ""
    kinds = {item["type"] for item in items}
    first = items[0]
    if "extra_forbidden" in kinds:
        known = _known_keys(first["loc"][:-1], schema)
        name = path.rpartition(".")[2]
        advice = nearest(name, known) or f"Known keys: {', '.join(known)}."
        return f"{prefix}unknown key {name!r}. {advice}"
    if "missing" in kinds:
        return f"{prefix}missing. Add this key; `bnzoo configs` lists examples."
    if "union_tag_not_found" in kinds:
        return f"{prefix}expected a mapping with a `name`, got {_plain(first['input'])}."
    if "union_tag_invalid" in kinds:
        tag, known = first["ctx"]["tag"], _words(first["ctx"]["expected_tags"])
        return (
            f"{prefix}name: expected one of {', '.join(known)}, got {tag!r}. "
            f"{nearest(tag, known)}".rstrip()
        ).replace(": name", ".name", 1)
    if "value_error" in kinds:
        return f"{prefix}{first['ctx']['error']}"
    return _expected_and_got(prefix, items)


def _expected_and_got(prefix: str, items: list[Mapping]) -> str:
    expected = list(dict.fromkeys(_expectation(item) for item in items))
    received = items[0]["input"]
    advice = ""
    words = [word for item in items for word in _words(item.get("ctx", {}).get("expected", ""))]
    if words and isinstance(received, str):
        advice = " " + nearest(received, words)
    elif isinstance(received, str) and expected[0] in ("a number", "an integer"):
        advice = " Write it without quotes."
    return f"{prefix}expected {' or '.join(expected)}, got {_plain(received)}.{advice}".rstrip()


def _expectation(item: Mapping) -> str:
    template = _EXPECTED.get(item["type"])
    return template.format(**item.get("ctx", {})) if template else item["msg"]


def _known_keys(location: tuple, schema: type[BaseModel]) -> list[str]:
    """Return the keys of the section at `location`, following fields and union tags."""
    candidates: list[Any] = [schema]
    for key in location:
        following: list[Any] = []
        for model in candidates:
            field = model.model_fields.get(key)
            following += _sections_in(field.annotation) if field else []
            if _tag(model) == key:
                following.append(model)
        candidates = following or candidates
    return sorted({name for model in candidates for name in model.model_fields})


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [section for argument in arguments for section in _sections_in(argument)]


def _tag(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("name")
    return getattr(field.annotation, "__args__", (None,))[0] if field else None


def _words(text: str) -> list[str]:
    return [word for part in text.replace(" or ", ",").split(",") if (word := part.strip(" '"))]


def _plain(value: Any) -> str:
    return repr(_as_lists(value))


def _as_lists(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_lists(item) for item in value]
    return value
