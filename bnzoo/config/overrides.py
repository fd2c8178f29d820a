"""`--set key=value`, and the variants of a study: dotted paths into the tree of a configuration."""

import copy
from collections.abc import Iterable
from typing import Any

import yaml

from bnzoo.config.reading import parse_yaml
from bnzoo.errors import InputError


def parse_override(text: str) -> tuple[str, Any]:
    """Split `"train.epochs=3"` into `("train.epochs", 3)`; the value is read as YAML.

    Raises:
        InputError: there is no `=`, the path is empty, or the value is no YAML.
    """
    path, equals, value = text.partition("=")
    path = path.strip()
    if not equals or not path or not all(path.split(".")):
        raise InputError(
            f"--set {text}: expected KEY=VALUE with a dotted KEY, for example --set train.epochs=3."
        )
    try:
        return path, parse_yaml(value)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"--set {text}: the value {value!r} is not valid YAML ({reason}). Quote it, "
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
        *parents, last = path.split(".")
        node = result
        for depth, key in enumerate(parents):
            child = node.get(key)
            if child is None:
                child = node[key] = {}
            if not isinstance(child, dict):
                # `optimizer: sgd` and `schedule: cosine` are short for a mapping with a name.
                if key not in ("optimizer", "schedule"):
                    raise InputError(
                        f"{door}{path}={value}: {'.'.join(parents[: depth + 1])} is {child!r}, "
                        f"not a mapping, so it has no key {(*parents, last)[depth + 1]!r}."
                    )
                child = node[key] = {"name": child}
            node = child
        node[last] = value
    return result
