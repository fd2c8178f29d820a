"""The space of a sweep: the values of each key, their combinations, and what is wrong with them."""

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

from bnzoo.config.problems import attempt, check
from bnzoo.config.schema import Config, Overrides
from bnzoo.config.train import Train
from bnzoo.config.tune import CONTINUOUS_STEPS, Range, Tune
from bnzoo.config.variants import plain_tree, resolve
from bnzoo.errors import nearest

DIGITS = 4  # of a range's values: 0.03162 says enough, and its folder is called so
MOST_TRIALS = 100_000  # of a grid that does not say with max_trials that it may be larger
MOST_TRIED = 500  # combinations that are checked; of a larger space, so many drawn at random
HYPERBAND_FACTOR = 3  # of keras-tuner: one trial in three goes on, for three times the epochs


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One key of the space.

    Attributes:
        path: the key, as a dotted path.
        values: all values that it can have, in order.
        conditions: by path, the values of others with which it is searched at all.
    """

    path: str
    values: tuple[Any, ...]
    conditions: dict[str, tuple[Any, ...]]

    def is_active(self, values: Overrides) -> bool:
        """Tell whether the key is searched, given the values of the keys before it."""
        return all(
            path in values and values[path] in allowed for path, allowed in self.conditions.items()
        )


def search_space(tree: dict, tune: Tune) -> list[Dimension]:
    """Return the keys of a space with all of their values, in `tune.search_order()`.

    Args:
        tree: the configuration as plain mappings; it decides whose values are whole numbers.
        tune: the checked section.
    """
    space = []
    for path in tune.search_order():
        values, conditions = tune.space[path], tune.conditions.get(path, {})
        if isinstance(values, Range):
            first = {parent: allowed[0] for parent, allowed in conditions.items()}
            values = _range_values(values, _is_whole(tree, path, values, first))
        space.append(Dimension(path, values, conditions))
    return space


def space_of(config: Config) -> list[Dimension]:
    """Return the keys that a checked configuration searches."""
    return search_space(plain_tree(config), config.tune)


def _is_whole(tree: dict, path: str, span: Range, parents: Overrides) -> bool:
    """Tell whether a key takes whole numbers only: batch sizes do, rates from 1 to 10 do not.

    Of the arguments of functions of the user's own nothing is known: two whole ends say so.
    """
    if path.startswith(("model.params.", "data.params.")):
        return isinstance(span.min, int) and isinstance(span.max, int)
    whole, fraction = (
        attempt(resolve, tree, {**parents, path: value}, "tune.space")[0]
        for value in (span.min, span.min + 0.5)
    )
    return isinstance(span.max, int) and whole is not None and fraction is None


def _range_values(span: Range, whole: bool) -> tuple[float, ...]:
    steps = span.steps or CONTINUOUS_STEPS
    if whole:
        steps = min(steps, span.max - span.min + 1)
    numbers = []
    for share in (step / (steps - 1) for step in range(steps)):
        if span.scale == "log":
            value = span.min * (span.max / span.min) ** share
        else:
            value = span.min + (span.max - span.min) * share
        numbers.append(round(value) if whole else float(f"{value:.{DIGITS}g}"))
    return tuple(dict.fromkeys(numbers))


def combinations(space: list[Dimension], values: Overrides | None = None) -> Iterator[Overrides]:
    """Yield every combination; keys whose conditions are not met are left out of it."""
    values = values or {}
    if not space:
        yield values
        return
    first, *rest = space
    choices = [{first.path: value} for value in first.values] if first.is_active(values) else [{}]
    for choice in choices:
        yield from combinations(rest, {**values, **choice})


def count_combinations(space: list[Dimension]) -> int:
    """Return how many combinations there are, without making them: there may be billions.

    Args:
        space: the keys, each after those that its conditions name.
    """
    parents = {path for one in space for path in one.conditions}
    # Only the values that conditions look at decide which of the other keys are searched.
    sizes = {one.path: len(one.values) for one in space if one.path not in parents}
    few = [
        dataclasses.replace(one, values=one.values[:1]) if one.path in sizes else one
        for one in space
    ]
    return sum(math.prod(sizes.get(path, 1) for path in values) for values in combinations(few))


def expected_trials(config: Config) -> int:
    """Return how many trials a sweep makes; a random one may find no new values a little earlier.

    Args:
        config: checked, with a `tune` section.
    """
    if config.tune.algorithm == "hyperband":
        return sum(map(sum, hyperband_sizes(config.train.epochs)))
    count = count_combinations(space_of(config))
    return min(count, config.tune.max_trials or count)


def hyperband_sizes(epochs: int) -> list[list[int]]:
    """Return how many trials each round of each bracket has, by keras-tuner's formula."""
    last = math.ceil(1 + math.log(epochs, HYPERBAND_FACTOR))
    brackets = itertools.takewhile(lambda n: HYPERBAND_FACTOR**n <= epochs, itertools.count())
    return [
        [math.ceil(last / (n + 1) * HYPERBAND_FACTOR ** (n - round)) for round in range(n + 1)]
        for n in brackets
    ]


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
    for values in _to_try(tune, space):
        yield from _overwritten(values)
        config, problems = attempt(resolve, tree, values, "tune.space")
        yield from problems
        if config is None:
            continue
        metric = (tune.objective or config.usual_objective()).name
        yield from _metric_problems(metric, config)
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


def _metric_problems(metric: str, config: Config) -> Iterator[str]:
    """Name an objective that no run has. Of other metrics than these, Keras chooses the names."""
    known = ("val_accuracy", "val_loss", "accuracy", "loss", "seconds")
    if config.train.loss is None and metric not in known:
        yield (
            f"tune.objective.name: expected {', '.join(map(repr, known[:-1]))} or {known[-1]!r}, "
            f"got {metric!r}. {nearest(metric, known) or 'Others come with train.metrics.'}"
        )


def _to_try(tune: Tune, space: list[Dimension]) -> Iterator[Overrides]:
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


def _overwritten(values: Overrides) -> Iterator[str]:
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
