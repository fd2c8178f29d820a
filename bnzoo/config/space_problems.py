"""What can be wrong with a search space besides its own section: found before anything is run."""

import dataclasses
import itertools
import random
from collections.abc import Iterator
from typing import Any

from bnzoo.config.problems import attempt, check
from bnzoo.config.space import (
    Dimension,
    Values,
    combinations,
    count_combinations,
    hyperband_sizes,
    search_space,
)
from bnzoo.config.train import Train
from bnzoo.config.tune import Range, Tune
from bnzoo.config.variants import resolve

MOST_TRIALS = 100_000  # of a grid that does not say with max_trials that it may be larger
MOST_TRIED = 500  # combinations that are checked; of a larger space, so many drawn at random


def space_problems(tree: dict) -> list[str]:
    """Return every problem of the sweep of a configuration, given as a plain mapping."""
    tune, _ = attempt(check, Tune, tree.get("tune"), "tune")
    if tune is None:
        return []
    space = search_space(tree, tune)
    found = (*_combination_problems(tree, tune, space), *_size_problems(tree, tune, space))
    return list(dict.fromkeys(found))


def _combination_problems(tree: dict, tune: Tune, space: list[Dimension]) -> Iterator[str]:
    """Name what would stop a trial, or make its result another's."""
    first: dict[str, str] = {}
    same: list[str] = []
    metric = tune.objective.name
    for values in _to_try(tune, space):
        yield from _overwritten(values)
        config, problems = attempt(resolve, tree, values, "tune.space")
        yield from problems
        if config is None:
            continue
        if metric.startswith("val_") and config.data.validation == "none":
            yield (
                f"tune.objective.name: expected a metric that every run has, got {metric!r}, which "
                "is not measured where data.validation is none. Set data.validation, for example "
                f"to 0.1, or the objective to {metric.removeprefix('val_')}."
            )
        words = ", ".join(f"{path}: {value}" for path, value in values.items())
        earlier = first.setdefault(config.model_dump_json(), words)
        if earlier != words:
            same.append(f"({earlier}) and ({words})")
    if same:
        yield (
            "tune.space: expected another config for each combination, got the same for "
            f"{same[0]}. Leave out one of the values, or name in tune.conditions where a key is "
            "searched."
        )


def _to_try(tune: Tune, space: list[Dimension]) -> Iterator[Values]:
    """Yield all combinations, of a range only with its ends; some of them in a large space."""
    ends = [
        dataclasses.replace(one, values=(one.values[0], one.values[-1]))
        if isinstance(tune.space[one.path], Range)
        else one
        for one in space
    ]
    if count_combinations(ends) <= MOST_TRIED:
        yield from combinations(ends)
        return
    draw = random.Random(0)  # the same ones at each check
    for _ in range(MOST_TRIED):
        yield from combinations(
            [dataclasses.replace(one, values=(draw.choice(one.values),)) for one in ends]
        )


def _overwritten(values: Values) -> Iterator[str]:
    """Name the values of which another key of the combination, inside theirs, changes a part."""
    for outer, inner in itertools.permutations(values, 2):
        path = inner.removeprefix(f"{outer}.")
        if path != inner and _changes(values[outer], path, values[inner]):
            yield (
                f"tune.space: {outer}: expected values that {inner}, which is searched too, does "
                f"not change, got {values[outer]!r}. Leave {inner} to its own values, or search it "
                "only beside other values of the first, with tune.conditions."
            )


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


def _size_problems(tree: dict, tune: Tune, space: list[Dimension]) -> Iterator[str]:
    """Name what keeps the algorithm from searching a space of this size."""
    count = count_combinations(space)
    if tune.algorithm == "grid":
        for path, searched in tune.space.items():
            if isinstance(searched, Range) and searched.steps is None:
                yield (
                    f"tune.space.{path}: expected steps, as a grid tries every value, got a range "
                    "without. Add, for example, steps: 7."
                )
        most = tune.max_trials or MOST_TRIALS
        if count > most:
            yield (
                f"tune.max_trials: expected at least the {count:,} combinations of the grid, got "
                f"{most:,}. Set it higher, search fewer values, or set algorithm: random."
            )
    if tune.algorithm == "hyperband":
        for path in sorted({"train", "train.epochs"} & tune.space.keys()):
            yield (
                f"tune.space.{path}: expected no train.epochs with hyperband, which itself decides "
                "how many epochs a trial gets, at most those of the config, got them among what is "
                "searched. Leave them out, or set algorithm: grid."
            )
        train = attempt(check, Train, tree.get("train"), "train")[0] or Train()
        needed = sum(sizes[0] for sizes in hyperband_sizes(train.epochs))
        if count < needed:
            yield (
                f"tune.space: expected at least {needed} combinations, which hyperband starts with "
                f"for train.epochs: {train.epochs}, got {count}. Search more values, or set "
                "algorithm: grid."
            )
