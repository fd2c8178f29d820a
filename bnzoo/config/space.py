"""From the `tune:` section to the values of each key, their combinations, and trials' configs."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from bnzoo.config.schema import Config
from bnzoo.config.tune import CONTINUOUS_STEPS, Range, Tune
from bnzoo.config.variants import resolve
from bnzoo.errors import InputError

Values = dict[str, Any]

FIXED = {
    "seed": "List the seeds of each trial in tune.seeds.",
    "compare": "A trial changes what is run, not a study.",
    "tune": "A trial changes what is run, not the sweep.",
}
DIGITS = 4  # of a range's values: 0.03162 says enough, and its folder is called so
NAME_LENGTH = 100  # characters of a trial's folder


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One key of the space.

    Attributes:
        path: the key, as a dotted path.
        values: all values that it can have, in order.
        conditions: by path, the values of others with which it is searched at all.
        is_range: whether the values are numbers of a range, without steps of its own.
    """

    path: str
    values: tuple[Any, ...]
    conditions: dict[str, tuple[Any, ...]]
    is_range: bool = False

    def is_active(self, values: Values) -> bool:
        """Tell whether the key is searched, given the values of the keys before it."""
        return all(
            path in values and values[path] in allowed for path, allowed in self.conditions.items()
        )


def search_space(tree: dict, tune: Tune) -> list[Dimension]:
    """Return the keys of a space, each after those that its conditions name.

    Args:
        tree: the configuration as plain mappings; it decides whose values are whole numbers.
        tune: the checked section, without circles in its conditions.
    """
    waiting, ordered = dict(tune.space), []
    while waiting:
        known = {dimension.path for dimension in ordered}
        path = next(p for p in waiting if set(tune.conditions.get(p, {})) <= known)
        searched, conditions = waiting.pop(path), tune.conditions.get(path, {})
        if isinstance(searched, Range):
            first = {parent: allowed[0] for parent, allowed in conditions.items()}
            values = _range_values(searched, _is_whole(tree, path, searched, first))
        else:
            values = searched
        is_range = isinstance(searched, Range) and searched.steps is None
        ordered.append(Dimension(path, values, conditions, is_range))
    return ordered


def space_of(config: Config) -> list[Dimension]:
    """Return the keys that a checked configuration searches."""
    return search_space(plain_tree(config), config.tune)


def plain_tree(config: Config) -> dict:
    """Return a configuration as `trial_config` changes it: only what was set, not the defaults."""
    return config.model_dump(mode="json", exclude_unset=True, exclude={"compare", "tune"})


def _is_whole(tree: dict, path: str, span: Range, parents: Values) -> bool:
    """Tell whether a key takes whole numbers only: batch sizes do, rates from 1 to 10 do not."""
    if not (isinstance(span.min, int) and isinstance(span.max, int)):
        return False
    return _is_accepted(tree, {**parents, path: span.min}) and not _is_accepted(
        tree, {**parents, path: span.min + 0.5}
    )


def _is_accepted(tree: dict, overrides: Values) -> bool:
    try:
        resolve_values(tree, overrides)
    except InputError:
        return False
    return True


def _range_values(span: Range, whole: bool) -> tuple[float, ...]:
    steps = span.steps or CONTINUOUS_STEPS
    if whole:
        steps = min(steps, span.max - span.min + 1)
    shares = [step / (steps - 1) for step in range(steps)]
    if span.scale == "log":
        ratio = math.log(span.max / span.min)
        found = [span.min * math.exp(ratio * share) for share in shares]
    else:
        found = [span.min + (span.max - span.min) * share for share in shares]
    found = [span.min, *found[1:-1], span.max]  # not 0.9999999
    numbers = [round(value) if whole else float(f"{value:.{DIGITS}g}") for value in found]
    return tuple(dict.fromkeys(numbers))


def combinations(space: list[Dimension], values: Values | None = None) -> Iterator[Values]:
    """Yield every combination; keys whose conditions are not met are left out of it."""
    if not space:
        yield dict(values or {})
        return
    first, *rest = space
    if not first.is_active(values or {}):
        yield from combinations(rest, values)
        return
    for value in first.values:
        yield from combinations(rest, {**(values or {}), first.path: value})


def trial_config(
    config: Config, values: Values, seed: int | None = None, epochs: int | None = None
) -> Config:
    """Return the configuration of one run of a trial: what `bnzoo train` runs.

    Args:
        config: the sweep's, checked.
        values: of the keys that are searched.
        seed: of the run; None keeps the configuration's own.
        epochs: other than the configuration's, as in the rounds of hyperband.
    """
    tree, overrides = plain_tree(config), dict(values)
    if seed is not None:
        tree["seed"] = seed
    if epochs is not None:
        overrides["train.epochs"] = epochs
    return resolve_values(tree, overrides)


def resolve_values(tree: dict, values: Values) -> Config:
    """Return the checked configuration of a tree with the values of a combination in it.

    Args:
        tree: a configuration as plain mappings.
        values: by path, in any order.

    Raises:
        InputError: names every problem, one per line.
    """
    return resolve(tree, values, "tune.space", FIXED)


def values_name(values: Values) -> str:
    """Name a combination so that it can be the name of a folder.

    Returns:
        Such as `learning_rate-0.001_placement-before`; a hash is added where characters had to go.
    """
    ends = [path.rpartition(".")[2] for path in values]
    keys = ends if len(set(ends)) == len(ends) else list(values)
    parts = [f"{key}-{_text(value)}" for key, value in zip(keys, values.values(), strict=True)]
    plain = "_".join(parts)
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", plain)[:NAME_LENGTH]
    if name == plain:
        return name
    exact = json.dumps(values, sort_keys=True)
    return f"{name.rstrip('-')}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value == float(f"{value:g}") else str(value)
