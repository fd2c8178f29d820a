"""From text to plain mappings: YAML files, and `--set key=value`, a dotted path into such a tree.

YAML 1.2, as people mean it: `3e-4` is a number, `on` is a word, a key is there once.
"""

import copy
import datetime
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bnzoo.errors import InputError, first_sentence

MAX_BYTES, MAX_VALUES, MAX_DEPTH = 2**24, 100_000, 50
"""Of a YAML file: far beyond what people write, and little enough to be read in seconds."""


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 1000  # a long text stays on one line
    return yaml


def parse_yaml(text: str) -> Any:
    """Return the plain Python value of a YAML text.

    Raises:
        InputError: the text is no YAML, or a mapping names a key twice.
    """
    try:
        tree = _yaml().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" (line {mark.line + 1})" if mark else ""
        raise InputError(f"not valid YAML: {error.problem or error.context}{line}") from None
    except YAMLError as error:
        raise InputError(f"not valid YAML: {' '.join(str(error).split())}") from None
    except Exception as error:  # what a date, a number or a tag of odd text comes to in ruamel.yaml
        raise InputError(f"not valid YAML: {first_sentence(error)}") from None
    return _plain(tree)


def _plain(tree: Any) -> Any:
    """Return the tree with only what a config can hold, and each alias as a value of its own.

    Raises:
        InputError: it holds something else, or too much: aliases of aliases grow without limit.
    """
    left = MAX_VALUES

    def copied(node: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise InputError(
                f"not a config: it has more than {MAX_VALUES:,} values, aliases followed, or is "
                f"nested more than {MAX_DEPTH} deep"
            )
        if isinstance(node, dict):
            return {copied(key, depth + 1): copied(one, depth + 1) for key, one in node.items()}
        if isinstance(node, list):
            return [copied(one, depth + 1) for one in node]
        if isinstance(node, tuple):  # a list as a key, which is told with its place
            return tuple(copied(one, depth + 1) for one in node)
        if node is None or isinstance(node, bool | int | float | str | datetime.date):
            return _printable(node)
        raise InputError(
            f"not a config: expected numbers, texts, lists, mappings, got a {type(node).__name__}"
        )

    return copied(tree, 0)


def _printable(value: Any) -> Any:
    try:
        str(value).encode()
    except ValueError as error:  # half of a surrogate pair, or a number of thousands of digits
        raise InputError(f"not a config: {first_sentence(error)}") from None
    return value


def as_yaml(tree: Any) -> str:
    """Return plain Python values as YAML text, in their own order; nothing for an empty mapping."""
    stream = io.StringIO()
    if tree:
        _yaml().dump(tree, stream)
    return stream.getvalue()


def read_yaml(path: Path) -> dict:
    """Return the mapping that a YAML file holds.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is no YAML, or no mapping.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise InputError(f"not a config: it has more than {MAX_BYTES:,} bytes")
        content = parse_yaml(text.decode("utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: expected a readable YAML file in UTF-8, got: {error}. "
            "Name a config file, or the folder of a run, study or sweep."
        ) from None
    except InputError as error:
        raise InputError(f"{path}: {error}.") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected a mapping with the sections data, model and train, "
            f"got {'an empty file' if content is None else type(content).__name__}. "
            "`bnzoo configs` lists examples."
        )
    return content


def parse_override(text: str) -> tuple[str, Any]:
    """Split `"train.epochs=3"` into `("train.epochs", 3)`; the value is read as YAML.

    Raises:
        InputError: there is no `=`, the path is empty, or the value is no YAML.
    """
    path, equals, value = text.partition("=")
    path = path.strip()
    if not equals:
        raise InputError(
            f"--set {text}: expected KEY=VALUE with a dotted KEY, for example --set train.epochs=3."
        )
    try:
        return path, parse_yaml(value)
    except InputError as error:
        raise InputError(
            f"--set {text}: the value {value!r} is {error}. Quote it, "
            "for example --set 'model.filters=[8, 8, 8]'."
        ) from None


def apply_overrides(tree: dict, overrides: Iterable[tuple[str, Any]], door: str = "--set ") -> dict:
    """Return a copy of `tree` with the value at each dotted path replaced.

    Args:
        tree: a configuration as plain mappings.
        overrides: pairs of dotted path and value; missing mappings on the way are made.
        door: how the overrides came in, for messages.

    Raises:
        InputError: a path leads through something that is no mapping.
    """
    result = copy.deepcopy(tree)
    for path, value in overrides:
        keys = path.split(".")
        if not all(keys):
            raise InputError(
                f"{door}{path}={value}: expected a dotted key such as train.epochs, got {path!r}."
            )
        node = result
        for depth, key in enumerate(keys[:-1], start=1):
            child = node.get(key) or {}
            if key in ("optimizer", "schedule", "study") and isinstance(child, str):
                child = {"name": child}  # `optimizer: sgd` is short for a mapping with a name
            if not isinstance(child, dict):
                raise InputError(
                    f"{door}{path}={value}: {'.'.join(keys[:depth])} is {child!r}, not a mapping, "
                    f"so it has no key {keys[depth]!r}."
                )
            node[key] = child
            node = child
        node[keys[-1]] = value
    return result
