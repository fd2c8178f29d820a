"""Pydantic's errors in our words: where, what was expected, what was received, what to do."""

import copy
import functools
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bnzoo.config.section import as_lists
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
    "string_pattern_mismatch": "a name of letters, digits, _ and -",
    "union_tag_not_found": "a mapping with a `name`",
    "none_required": "null",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "too_short": "a length of at least {min_length}",
    "too_long": "a length of at most {max_length}",
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
        lines = _describe(error, tree)
        try:
            schema.model_validate(mended := _with_close_names(error, tree))
        except ValidationError as second:
            lines += [line for line in _describe(second, mended) if line not in lines]
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


def _describe(error: ValidationError, tree: dict) -> list[str]:
    merged: dict[str, list[Mapping]] = {}
    for item in error.errors():
        merged.setdefault(_dotted(item, tree), []).append(item)
    return [_sentence(path, items) for path, items in merged.items()]


def _with_close_names(error: ValidationError, tree: dict) -> dict:
    """Return the tree with the known names for those that are a slip of one.

    The name chooses the schema of a section, so pydantic looks at nothing else in it.
    """
    mended = copy.deepcopy(tree)
    for item in error.errors():
        if item["type"] == "union_tag_invalid":
            close = close_words(item["ctx"]["tag"], _words(item["ctx"]["expected_tags"]))
            path = _dotted(item, tree)
            if close and path:
                functools.reduce(dict.get, path.split("."), mended)["name"] = close[0]
    return mended


def _dotted(item: Mapping, tree: Any) -> str:
    """Return the path as the user would type it.

    Pydantic puts the chosen member of a union, and names of validators, into the path.
    """
    path, node = [], tree
    for key in item["loc"]:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(str(key))
    if item["type"] == "missing":
        path.append(str(item["loc"][-1]))
    return ".".join(path)


def _sentence(path: str, items: list[Mapping]) -> str:
    prefix = f"{path}: " if path else ""
    kinds, first = {item["type"] for item in items}, items[0]
    if "extra_forbidden" in kinds:
        known, name = first["input"], path.rpartition(".")[2]
        advice = nearest(name, known) or f"Known keys: {', '.join(known)}."
        return f"{prefix}unknown key {name!r}. {advice}"
    if "missing" in kinds:
        return f"{prefix}missing. Add this key; `bnzoo configs` lists examples."
    if "union_tag_invalid" in kinds:
        tag, known = first["ctx"]["tag"], _words(first["ctx"]["expected_tags"])
        where = ".".join([*filter(None, [path]), "name"])
        hint = nearest(tag, known)
        return f"{where}: expected one of {', '.join(known)}, got {tag!r}. {hint}".rstrip()
    if "value_error" in kinds:
        text = str(first["ctx"]["error"])
        # A check of several keys begins with the one that is wrong: `seeds: expected ...`.
        return f"{path}.{text}" if path and re.match(r"\w+: ", text) else f"{prefix}{text}"
    return _expected_and_got(prefix, items)


def _expected_and_got(prefix: str, items: list[Mapping]) -> str:
    expected = list(dict.fromkeys(_expectation(item) for item in items))
    received, advice = as_lists(items[0]["input"]), ""
    words = [word for item in items for word in _words(item.get("ctx", {}).get("expected", ""))]
    if isinstance(received, str) and words:
        advice = nearest(received, words)
    elif isinstance(received, str) and expected[0] in ("a number", "an integer"):
        advice = _advice_on_number(received)
    return f"{prefix}expected {' or '.join(expected)}, got {received!r}. {advice}".rstrip()


def _advice_on_number(text: str) -> str:
    try:
        float(text)
    except ValueError:
        return "Write a number, such as 3."
    return "Write it without quotes."


def _expectation(item: Mapping) -> str:
    template = _EXPECTED.get(item["type"])
    return template.format(**item.get("ctx", {})) if template else item["msg"]


def _words(quoted: str) -> list[str]:
    return re.findall("'([^']*)'", quoted)
