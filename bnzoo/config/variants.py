"""The variants of a study and the trials of a sweep: configs with some keys changed, and names."""

import hashlib
import json
import re
from typing import Any

from bnzoo.config.problems import attempt, check
from bnzoo.config.reading import apply_overrides
from bnzoo.config.schema import Compare, Config, Overrides
from bnzoo.errors import InputError

# A variant, or a trial, changes what is run: not what it is compared with, nor how often.
_FIXED = ("seed", "compare", "tune")
NAME_LENGTH = 100  # characters of a trial's folder


def variant_configs(config: Config, seed: int | None = None) -> dict[str, Config]:
    """Return the configuration of each variant by its name; the baseline comes first.

    Args:
        config: a checked configuration with a `compare` section.
        seed: the seed of a run; None keeps the configuration's own.

    Returns:
        What `bnzoo train` would run with `--set` for the seed and for each key of the variant.
    """
    tree = plain_tree(config, seed)
    return {
        name: resolve(tree, overrides, _where(config.compare, name))
        for name, overrides in config.compare.overrides().items()
    }


def trial_config(
    config: Config, values: Overrides, seed: int | None = None, epochs: int | None = None
) -> Config:
    """Return the configuration of one run of a trial: what `bnzoo train` runs.

    Args:
        config: the sweep's, checked.
        values: of the keys that are searched.
        seed: of the run; None keeps the configuration's own.
        epochs: other than the configuration's, as in the rounds of hyperband.
    """
    rounds = {} if epochs is None else {"train.epochs": epochs}
    return resolve(plain_tree(config, seed), {**values, **rounds}, "tune.space")


def plain_tree(config: Config, seed: int | None = None) -> dict:
    """Return a configuration as plain mappings for `resolve`, with another seed if one is given.

    Only what was set, not the defaults: an override may choose another model or optimizer, and the
    defaults of the first are unknown keys to the second.
    """
    tree = config.model_dump(mode="json", exclude_unset=True)
    return tree if seed is None else {**tree, "seed": seed}


def variant_problems(tree: dict) -> list[str]:
    """Return every problem of the variants of a configuration, given as a plain mapping."""
    compare, _ = attempt(check, Compare, tree.get("compare"), "compare")
    problems, names = [], {}
    for name, overrides in compare.overrides().items() if compare else ():
        where = _where(compare, name)
        config, found = attempt(resolve, tree, overrides, where)
        problems += found
        first = names.setdefault(config.model_dump_json(), name) if config else name
        if first != name:
            problems.append(
                f"{where}: expected another config than {first}, got the same. "
                "Leave one of the two out, or change a key."
            )
    return problems


def _where(compare: Compare, name: str) -> str:
    return f"compare.variants.{name}" if name in compare.variants else "compare.baseline"


def resolve(tree: dict, overrides: Overrides, source: str) -> Config:
    """Return the checked configuration of one run: of a tree with some keys changed.

    Where one path lies inside another, the shorter is set first: the longer would be lost.

    Args:
        tree: a configuration as plain mappings; its sections `compare` and `tune` are left out.
        overrides: by dotted path, the value that stands there instead.
        source: what to call the overrides in messages.

    Raises:
        InputError: names every problem, one per line.
    """
    tree = {key: value for key, value in tree.items() if key not in ("compare", "tune")}
    problems = []
    for path, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
        if path.partition(".")[0] in _FIXED:
            problems.append(
                f"{source}: {path}: expected another key, as this one is the same for all. Seeds "
                "are listed in compare.seeds and tune.seeds."
            )
            continue
        changed, found = attempt(apply_overrides, tree, [(path, value)], f"{source}: ")
        tree, problems = changed or tree, problems + found
    config, found = attempt(check, Config, tree, source)
    if config:
        found = [f"{source}: {line}" for line in config.function_problems()]
    if problems + found:
        raise InputError("\n".join(problems + found))
    return config


def values_name(values: Overrides) -> str:
    """Name a combination so that it can be the name of a folder.

    Returns:
        Such as `learning_rate-0.001_placement-before`; a hash is added where characters had to go.
    """
    plain = "_".join(f"{key}-{text}" for key, text in value_texts(values).items())
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", plain)[:NAME_LENGTH]
    if name == plain:
        return name
    exact = json.dumps(values, sort_keys=True)
    return f"{name.rstrip('-')}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def value_texts(values: Overrides) -> dict[str, str]:
    """Return the words for a combination: the last part of each path, and its value as text.

    Where two paths end alike, both are whole.
    """
    ends = [path.rpartition(".")[2] for path in values]
    keys = ends if len(set(ends)) == len(ends) else values
    return {key: _text(value) for key, value in zip(keys, values.values(), strict=True)}


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value == float(f"{value:g}") else str(value)
