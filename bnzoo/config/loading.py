"""From a YAML file and overrides to a checked configuration, and back to YAML."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from bnzoo.config.overrides import apply_overrides, parse_override
from bnzoo.config.problems import check
from bnzoo.config.reading import read_yaml
from bnzoo.config.schema import Config
from bnzoo.config.space_problems import space_problems
from bnzoo.config.variants import variant_problems
from bnzoo.errors import InputError


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read and check a configuration.

    Args:
        path: the YAML file.
        overrides: texts `"dotted.key=value"`, applied before the check.

    Raises:
        InputError: the file cannot be read, or anything in it is wrong. All problems are named,
            one per line, each with its path.
    """
    path = Path(path)
    tree = apply_overrides(read_yaml(path), [parse_override(text) for text in overrides])
    return validate(tree, source=str(path))


def validate(tree: dict, source: str) -> Config:
    """Check a plain mapping.

    Args:
        tree: the mapping.
        source: what to call it in messages, usually the file's name.

    Raises:
        InputError: as `load_config`.
    """
    problems: list[str] = []
    try:
        config = check(Config, tree, source)
    except InputError as error:
        problems = str(error).splitlines()
    own = list(problems)
    problems += variant_problems(tree, source, known=own)
    problems += space_problems(tree, source, known=own)
    if problems:
        raise InputError("\n".join(problems))
    return config


def load_resolved(path: str | Path) -> Config:
    """Read a configuration that `dump_config` wrote.

    The variants of a study were checked before it was written; they are not applied again, as
    all defaults stand there now (see `variant_configs`).

    Raises:
        InputError: the file cannot be read, or was changed into something that is no config.
    """
    return check(Config, read_yaml(Path(path)), str(path))


def check_configs(paths: Sequence[str | Path], overrides: Iterable[str] = ()) -> list[str]:
    """Return every problem of every file, one text each; empty when all are good."""
    overrides = list(overrides)
    problems = []
    for path in paths:
        try:
            load_config(path, overrides)
        except InputError as error:
            problems += str(error).splitlines()
    return problems


def dump_config(config: Config) -> str:
    """Return the resolved configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def differences(before: Config, after: Config) -> list[str]:
    """Name what differs between two configurations, one dotted key each.

    Returns:
        Texts like `"model.placement: none there, before here"`.
    """
    left, right = _leaves(before.model_dump(mode="json")), _leaves(after.model_dump(mode="json"))
    return [
        f"{key}: {_shown(left, key)} there, {_shown(right, key)} here"
        for key in dict.fromkeys([*left, *right])
        if left.get(key) != right.get(key) or (key in left) != (key in right)
    ]


def _shown(leaves: dict, key: str) -> object:
    return leaves.get(key, "absent")


def _leaves(tree: dict, prefix: str = "") -> dict[str, object]:
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
