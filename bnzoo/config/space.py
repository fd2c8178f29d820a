"""From the `tune:` section to the values of each key, their combinations, and trials' configs."""

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from bnzoo.config.problems import attempt
from bnzoo.config.schema import Config
from bnzoo.config.tune import CONTINUOUS_STEPS, Range, Tune
from bnzoo.config.variants import plain_tree, resolve

Values = dict[str, Any]

DIGITS = 4  # of a range's values: 0.03162 says enough, and its folder is called so
NAME_LENGTH = 100  # characters of a trial's folder
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

    def is_active(self, values: Values) -> bool:
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


def _is_whole(tree: dict, path: str, span: Range, parents: Values) -> bool:
    """Tell whether a key takes whole numbers only: batch sizes do, rates from 1 to 10 do not."""
    if not (isinstance(span.min, int) and isinstance(span.max, int)):
        return False
    takes_whole, takes_fraction = (
        attempt(resolve, tree, {**parents, path: value}, "tune.space")[0] is not None
        for value in (span.min, span.min + 0.5)
    )
    return takes_whole and not takes_fraction


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


def combinations(space: list[Dimension], values: Values | None = None) -> Iterator[Values]:
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
    count, most = count_combinations(space_of(config)), config.tune.max_trials
    return count if most is None else min(most, count)


def hyperband_sizes(epochs: int) -> list[list[int]]:
    """Return how many trials each round of each bracket has, by keras-tuner's formula."""
    last = math.ceil(1 + math.log(epochs, HYPERBAND_FACTOR))
    brackets = itertools.takewhile(lambda n: HYPERBAND_FACTOR**n <= epochs, itertools.count())
    return [
        [math.ceil(last / (n + 1) * HYPERBAND_FACTOR ** (n - round)) for round in range(n + 1)]
        for n in brackets
    ]


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
    rounds = {} if epochs is None else {"train.epochs": epochs}
    return resolve(plain_tree(config, seed), {**values, **rounds}, "tune.space")


def values_name(values: Values) -> str:
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


def value_texts(values: Values) -> dict[str, str]:
    """Return the words for a combination: the last part of each path, and its value as text.

    Where two paths end alike, both are whole.
    """
    ends = [path.rpartition(".")[2] for path in values]
    keys = ends if len(set(ends)) == len(ends) else values
    return {key: _text(value) for key, value in zip(keys, values.values(), strict=True)}


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value == float(f"{value:g}") else str(value)
