"""`--set key=value`, and the variants of a study: dotted paths into a tree of keys."""

import copy
from collections.abc import Iterable
from typing import Any

from bnzoo.config.problems import check, readable
from bnzoo.config.reading import parse_yaml
from bnzoo.config.schema import BASELINE, Compare, Config, Overrides
from bnzoo.errors import InputError

# A variant, or a trial, changes what is run: not what it is compared with, nor how often.
_FIXED = ("seed", "compare", "tune")


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
        *parents, last = path.split(".")
        if not all((*parents, last)):
            raise InputError(
                f"{door}{path}={value}: expected a dotted key such as train.epochs, got {path!r}."
            )
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


def variant_configs(config: Config, seed: int | None = None) -> dict[str, Config]:
    """Return the configuration of each variant by its name; the baseline comes first.

    Args:
        config: a checked configuration with a `compare` section.
        seed: the seed of a run; None keeps the configuration's own.

    Returns:
        What `bnzoo train` would run with `--set` for the seed and for each key of the variant.
    """
    # Only what was set, not the defaults: an override may choose another model or optimizer, and
    # the defaults of the first are unknown keys to the second.
    tree = config.model_dump(mode="json", exclude_unset=True, exclude={"compare", "tune"})
    if seed is not None:
        tree["seed"] = seed
    return {
        name: resolve(tree, overrides, _where(name))
        for name, overrides in config.compare.overrides().items()
    }


def variant_problems(tree: dict) -> list[str]:
    """Return every problem of the variants of a configuration, given as a plain mapping."""
    compare = readable(Compare, tree.get("compare"))
    if compare is None:
        return []
    base = {key: value for key, value in tree.items() if key not in ("compare", "tune")}
    problems, names = [], {}
    for name, overrides in compare.overrides().items():
        where = _where(name)
        try:
            config = resolve(base, overrides, where)
        except InputError as error:
            problems += str(error).splitlines()
            continue
        first = names.setdefault(config.model_dump_json(), name)
        if first != name:
            problems.append(
                f"{where}: expected another config than {first}, got the same. "
                "Leave one of the two out, or change a key."
            )
    return problems


def _where(name: str) -> str:
    return "compare.baseline" if name == BASELINE else f"compare.variants.{name}"


def resolve(tree: dict, overrides: Overrides, source: str) -> Config:
    """Return the checked configuration of a tree with some keys changed.

    Where one path lies inside another, the shorter is set first: the longer would be lost.

    Args:
        tree: a configuration as plain mappings.
        overrides: by dotted path, the value that stands there instead.
        source: what to call the overrides in messages.

    Raises:
        InputError: names every problem, one per line.
    """
    problems = []
    for path, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
        if path.partition(".")[0] in _FIXED:
            problems.append(
                f"{path}: expected another key, as this one is the same for all. Seeds are listed "
                "in compare.seeds and tune.seeds."
            )
            continue
        try:
            tree = apply_overrides(tree, [(path, value)], door="")
        except InputError as error:
            problems.append(str(error))
    problems = [f"{source}: {problem}" for problem in problems]
    try:
        config = check(Config, tree, source)
    except InputError as error:
        problems += str(error).splitlines()
    if problems:
        raise InputError("\n".join(problems))
    return config
