"""What can be wrong with a combination of a search space: each is tried before anything is run."""

import functools
import itertools
from typing import Any

from bnzoo.config.overrides import apply_overrides
from bnzoo.config.schema import Config
from bnzoo.config.space import Dimension, Values, combinations, resolve_values
from bnzoo.config.space_size import count_combinations
from bnzoo.config.tune import Tune
from bnzoo.errors import InputError

MOST_TRIED = 500  # combinations that are checked; of a larger space, one for each value


def combination_problems(
    base: dict, tune: Tune, space: list[Dimension], known: list[str]
) -> list[str]:
    """Name what would stop a trial, or make its result another's, once each.

    Args:
        base: the configuration as plain mappings, without studies and sweeps.
        tune: the checked section.
        space: its keys.
        known: the problems of the configuration itself, which every combination has.
    """
    problems: dict[str, None] = {}
    found: list[tuple[Values, Config]] = []
    for values in _to_try(space):
        lines = _overwritten(values)
        try:
            config = resolve_values(base, values)
        except InputError as error:
            all_lines = str(error).splitlines()
            lines += [line for line in all_lines if line.split(": ", 1)[1] not in known]
        else:
            lines += _unmeasured(config, tune, known)
            found.append((values, config))
        problems |= dict.fromkeys(lines)
    return list(problems) or _same(found)


def _to_try(space: list[Dimension]) -> list[Values]:
    """Return all combinations; of a large space, for each value one that has it."""
    ends = [
        Dimension(one.path, (one.values[0], one.values[-1]), one.conditions)
        if one.is_range
        else one
        for one in space
    ]
    if count_combinations(ends) <= MOST_TRIED:
        return list(combinations(ends))
    found = [_with(ends, one, value) for one in ends for value in one.values]
    return [values for values in _distinct(found) if values]


def _with(space: list[Dimension], one: Dimension, value: Any) -> Values:
    """Return a whole combination that has a value; empty if no combination can have it."""
    allowed: dict[str, list] = {one.path: [value]}
    for dimension in reversed(space):  # a key stands after those that its conditions name
        if dimension.path in allowed:
            for path, met in dimension.conditions.items():
                before = allowed.get(path, met)
                allowed[path] = [item for item in before if item in met]
    if not all(allowed.values()):
        return {}
    found: Values = {}
    for dimension in space:
        if dimension.is_active(found):
            found[dimension.path] = allowed.get(dimension.path, dimension.values)[0]
    return found


def _distinct(found: list[Values]) -> list[Values]:
    return list({repr(values): values for values in found}.values())


def _overwritten(values: Values) -> list[str]:
    """Name the values of which another key of the combination, inside theirs, changes a part."""
    return [
        f"tune.space: {outer}: expected values that {inner}, which is searched too, does not "
        f"change, got {values[outer]!r}. Leave {inner} to its own values, or search it only "
        "beside other values of the first, with tune.conditions."
        for outer, inner in itertools.permutations(values, 2)
        if inner.startswith(f"{outer}.") and not _stands(outer, inner, values)
    ]


def _stands(outer: str, inner: str, values: Values) -> bool:
    """Tell whether a value is still there after another has been set inside it."""
    try:
        # Twice, as the second would write into the value itself that the first put in place.
        tree = apply_overrides({}, [(outer, values[outer])], door="")
        tree = apply_overrides(tree, [(inner, values[inner])], door="")
    except InputError:
        return True  # it is refused with the reason when the combination is resolved
    return _holds(functools.reduce(dict.get, outer.split("."), tree), values[outer])


def _holds(node: Any, value: Any) -> bool:
    if isinstance(node, dict) and isinstance(value, dict):
        return all(key in node and _holds(node[key], value[key]) for key in value)
    if isinstance(node, dict):  # `optimizer: sgd` is short for a mapping with a name
        return "name" in node and node["name"] == value
    return node == value


def _unmeasured(config: Config, tune: Tune, known: list[str]) -> list[str]:
    where, metric = "tune.objective.name", tune.objective.name
    if config.measures(metric) or any(line.startswith(f"{where}: ") for line in known):
        return []
    return [
        f"{where}: expected a metric that every combination of tune.space has, got {metric!r}, "
        "which is not measured where data.validation is none. Take none out of the space, or "
        f"set the objective to {metric.removeprefix('val_')}."
    ]


def _same(found: list[tuple[Values, Config]]) -> list[str]:
    """Name two combinations that are one run, if there are any."""
    first: dict[str, Values] = {}
    twice = []
    for values, config in found:
        earlier = first.setdefault(config.model_dump_json(), values)
        if earlier is not values:
            twice.append((earlier, values))
    if not twice:
        return []
    one, other = (_shown(values) for values in twice[0])
    more = f" (and {len(twice) - 1} more)" if len(twice) > 1 else ""
    return [
        f"tune.space: expected another config for each combination, got the same for ({one}) and "
        f"({other}){more}. Leave out one of the values, or name in tune.conditions where a key is "
        "searched."
    ]


def _shown(values: Values) -> str:
    return ", ".join(f"{path}: {value}" for path, value in values.items())
