"""Pydantic's errors in our words: where, what was expected, what was received, what to do."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bnzoo.config.reading import apply_overrides
from bnzoo.errors import InputError, close_words, nearest

# Where pydantic's own words would puzzle: "Input should be a valid dictionary".
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "string_pattern_mismatch": "a name of letters, digits, _ and -",
    "invalid_key": "a word as key, or quotes around it",
    "union_tag_not_found": "a mapping with a `name`",
    "union_tag_invalid": "one of {expected_tags}",
    "too_short": "a length of at least {min_length}",
    "greater_than": "{number} above {gt:.10g}",
    "greater_than_equal": "{number} of at least {ge:.10g}",
    "less_than": "{number} below {lt:.10g}",
    "less_than_equal": "{number} of at most {le:.10g}",
}

Checked = TypeVar("Checked", bound=BaseModel)
Found = TypeVar("Found")


def check(schema: type[Checked], tree: Any, source: str) -> Checked:
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


def attempt(function: Callable[..., Found], *arguments: Any) -> tuple[Found | None, list[str]]:
    """Call a function that may refuse bad input.

    Returns:
        What it returned, or None; and the problems that it named.
    """
    try:
        return function(*arguments), []
    except InputError as error:
        return None, str(error).splitlines()


def _describe(error: ValidationError, tree: Any) -> list[str]:
    merged: dict[str, list[Mapping]] = {}
    items = error.errors()
    for item in items:
        # Pydantic leaves bad entries out of the length of a list.
        deeper = (one["loc"] for one in items if len(one["loc"]) > len(item["loc"]))
        if item["type"] == "too_short" and item["loc"] in (loc[:-1] for loc in deeper):
            continue
        merged.setdefault(_dotted(item, tree), []).append(item)
    # A problem of the whole tree has no path.
    return [_sentence(path, items).lstrip(".: ") for path, items in merged.items()]


def _with_close_names(error: ValidationError, tree: Any) -> Any:
    """Return the tree with the known names for those that are a slip of one.

    The name chooses the schema of a section, so pydantic looks at nothing else in it.
    """
    for item in error.errors():
        if item["type"] == "union_tag_invalid":
            close = close_words(item["ctx"]["tag"], _quoted(item["ctx"]["expected_tags"]))[:1]
            tree = apply_overrides(tree, [(f"{_dotted(item, tree)}.name", name) for name in close])
    return tree


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
    """Word the errors of one path: several where none of the members of a union fits."""
    kind, received, context = (items[0].get(key) for key in ("type", "input", "ctx"))
    if kind == "value_error":
        text = str(context["error"])
        # A check of several keys begins with the one that is wrong: `seeds: expected ...`.
        joint = "." if re.match(r"[\w.]+: ", text) else ": "
        return f"{path}{joint}{text}"
    if kind == "missing":
        return f"{path}: missing. Add this key; `bnzoo configs` lists examples."
    if kind == "extra_forbidden":  # `Section._read` put the known keys in place of the value
        name = path.rpartition(".")[2]
        advice = nearest(name, received) or f"Known keys: {', '.join(received)}."
        return f"{path}: unknown key {name!r}. {advice}"
    if kind == "union_tag_invalid":
        path, received = f"{path}.name", context["tag"]
    expected, advice = " or ".join(dict.fromkeys(map(_expectation, items))), ""
    if isinstance(received, str):
        advice = nearest(received, _quoted(expected))
        if "number" in expected:
            advice = "Write a number, such as 3; in quotes it is text."
    return f"{path}: expected {expected}, got {received!r}. {advice}".rstrip()


def _expectation(item: Mapping) -> str:
    context = item.get("ctx", {})
    # The limit of a whole number is an integer, that of any other a float.
    is_whole = any(isinstance(value, int) for value in context.values())
    usual = item["msg"].removeprefix("Input should be ")
    number = "a whole number" if is_whole else "a number"
    return _EXPECTED.get(item["type"], usual).format(number=number, **context)


def _quoted(text: str) -> list[str]:
    return re.findall("'([^']*)'", text)
