"""From text to plain mappings: YAML files, and `--set key=value`, a dotted path into such a tree.

YAML 1.2, as people mean it: `3e-4` is a number, `on` is a word, a key is there once.
"""

import copy
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bnzoo.errors import InputError


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
        return _yaml().load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise InputError(f"not valid YAML: {error.problem} (line {line})") from None
    except YAMLError as error:
        raise InputError(f"not valid YAML: {' '.join(str(error).split())}") from None


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
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
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
