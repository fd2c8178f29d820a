"""What can be wrong with a search space besides its own section: found before anything is run."""

import dataclasses
import itertools
import random
from typing import Any

from bnzoo.config.overrides import resolve
from bnzoo.config.problems import readable
from bnzoo.config.schema import Config
from bnzoo.config.space import (
    Dimension,
    Values,
    combinations,
    count_combinations,
    hyperband_starts,
    search_order,
    search_space,
)
from bnzoo.config.train import Train
from bnzoo.config.tune import Range, Tune
from bnzoo.errors import InputError, nearest

MOST_TRIALS = 100_000  # of a grid that does not say with max_trials that it may be larger
MOST_TRIED = 500  # combinations that are checked; of a larger space, so many drawn at random


def space_problems(tree: dict) -> list[str]:
    """Return every problem of the sweep of a configuration, given as a plain mapping."""
    tune = readable(Tune, tree.get("tune"))
    if tune is None:
        return []
    problems = _condition_problems(tune)
    if problems:
        return problems
    base = {key: value for key, value in tree.items() if key not in ("compare", "tune")}
    space = search_space(base, tune)
    problems = _combination_problems(base, tune, space)
    if tune.algorithm == "grid":
        problems += _grid_problems(tune, space)
    if tune.algorithm == "hyperband":
        problems += _hyperband_problems(space, base)
    return problems


def _condition_problems(tune: Tune) -> list[str]:
    problems = []
    for path, parents in tune.conditions.items():
        where = f"tune.conditions.{path}"
        for unknown in (key for key in (path, *parents) if key not in tune.space):
            hint = nearest(unknown, tune.space) or f"There are {', '.join(tune.space)}."
            problems.append(f"{where}: expected paths of tune.space, got {unknown!r}. {hint}")
        for parent, allowed in parents.items():
            searched = tune.space.get(parent, allowed)
            is_range = isinstance(searched, Range)
            listed = "as a list" if is_range else ", ".join(map(str, searched))
            problems += [
                f"{where}: expected values that {parent} has, {listed}, got {value!r}. "
                "It would never be met."
                for value in allowed
                if is_range or value not in searched
            ]
    circle = set(tune.space) - set(search_order(tune))
    if circle and not problems:
        names = " and ".join(path for path in tune.space if path in circle)
        problems.append(
            f"tune.conditions: expected no circle, got {names}, each of which waits for another. "
            "Remove one of the conditions."
        )
    return problems


def _combination_problems(base: dict, tune: Tune, space: list[Dimension]) -> list[str]:
    """Name what would stop a trial, or make its result another's, once each."""
    problems: list[str] = []
    first: dict[str, Values] = {}
    same: list[tuple[Values, Values]] = []
    for values in _to_try(tune, space):
        problems += _overwritten(values)
        try:
            config = resolve(base, values, "tune.space")
        except InputError as error:
            problems += str(error).splitlines()
            continue
        problems += _unmeasured(config, tune.objective.name)
        earlier = first.setdefault(config.model_dump_json(), values)
        if earlier is not values:
            same.append((earlier, values))
    return list(dict.fromkeys(problems)) or _same(same)


def _to_try(tune: Tune, space: list[Dimension]) -> list[Values]:
    """Return all combinations, of a range only with its ends; some of them in a large space."""
    ends = [
        dataclasses.replace(one, values=(one.values[0], one.values[-1]))
        if isinstance(tune.space[one.path], Range)
        else one
        for one in space
    ]
    if count_combinations(ends) <= MOST_TRIED:
        return list(combinations(ends))
    draw = random.Random(0)  # the same ones at each check
    found: dict[str, Values] = {}
    for _ in range(MOST_TRIED):
        values: Values = {}
        for one in ends:
            if one.is_active(values):
                values[one.path] = draw.choice(one.values)
        found[repr(values)] = values
    return list(found.values())


def _overwritten(values: Values) -> list[str]:
    """Name the values of which another key of the combination, inside theirs, changes a part."""
    return [
        f"tune.space: {outer}: expected values that {inner}, which is searched too, does not "
        f"change, got {values[outer]!r}. Leave {inner} to its own values, or search it only "
        "beside other values of the first, with tune.conditions."
        for outer, inner in itertools.permutations(values, 2)
        if inner.startswith(f"{outer}.")
        and _changes(values[outer], inner.removeprefix(f"{outer}."), values[inner])
    ]


def _changes(value: Any, path: str, new: Any) -> bool:
    """Tell whether setting a path inside a value changes what the value says itself."""
    for key in path.split("."):
        if isinstance(value, str):  # `optimizer: sgd` is short for a mapping with a name
            value = {"name": value}
        if not isinstance(value, dict):
            return value is None  # any other is refused when the combination is resolved
        if key not in value:
            return False
        value = value[key]
    return value != new


def _unmeasured(config: Config, metric: str) -> list[str]:
    if not metric.startswith("val_") or config.data.validation != "none":
        return []
    return [
        f"tune.objective.name: expected a metric that every run has, got {metric!r}, which is not "
        "measured where data.validation is none. Set data.validation, for example to 0.1, or the "
        f"objective to {metric.removeprefix('val_')}."
    ]


def _same(pairs: list[tuple[Values, Values]]) -> list[str]:
    """Name two combinations that are one run, if there are any."""
    if not pairs:
        return []
    one, other = (", ".join(f"{path}: {v}" for path, v in values.items()) for values in pairs[0])
    more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
    return [
        f"tune.space: expected another config for each combination, got the same for ({one}) and "
        f"({other}){more}. Leave out one of the values, or name in tune.conditions where a key is "
        "searched."
    ]


def _grid_problems(tune: Tune, space: list[Dimension]) -> list[str]:
    problems = [
        f"tune.space.{path}: expected steps, as a grid tries every value, got a range without. "
        "Add, for example, steps: 7."
        for path, searched in tune.space.items()
        if isinstance(searched, Range) and searched.steps is None
    ]
    if problems:
        return problems
    count = count_combinations(space)
    if tune.max_trials is None and count > MOST_TRIALS:
        return [
            f"tune.space: expected at most {MOST_TRIALS:,} combinations in a grid, got {count:,}. "
            "Search fewer values, or set algorithm: random and max_trials."
        ]
    if tune.max_trials is None or count <= tune.max_trials:
        return []
    return [
        f"tune.max_trials: expected at least the {count:,} combinations of the grid, got "
        f"{tune.max_trials}. Raise it, search fewer values, or set algorithm: random."
    ]


def _hyperband_problems(space: list[Dimension], base: dict) -> list[str]:
    problems = [
        f"tune.space.{one.path}: expected no train.epochs with hyperband, which itself decides how "
        "many epochs a trial gets, at most those of the config, got them among what is searched. "
        "Leave them out, or set algorithm: grid."
        for one in space
        if _sets_epochs(one)
    ]
    train = readable(Train, base.get("train")) or Train()
    needed, count = hyperband_starts(train.epochs), count_combinations(space)
    if problems or count >= needed:
        return problems
    return [
        f"tune.space: expected at least {needed} combinations, which hyperband starts with for "
        f"train.epochs: {train.epochs}, got {count}. Search more values, or set algorithm: grid."
    ]


def _sets_epochs(one: Dimension) -> bool:
    if one.path == "train":
        return any(isinstance(value, dict) and "epochs" in value for value in one.values)
    return one.path == "train.epochs"
