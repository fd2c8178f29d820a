"""How many trials a sweep makes."""

import collections
import math

from bnzoo.config.schema import Config
from bnzoo.config.space import Dimension, Values, space_of

HYPERBAND_FACTOR = 3  # of keras-tuner: one trial in three goes on, for three times the epochs


def count_combinations(space: list[Dimension]) -> int:
    """Return how many combinations there are, without making them: there may be billions.

    Args:
        space: the keys, each after those that its conditions name.
    """
    return _count(space, {})


def _count(space: list[Dimension], values: Values) -> int:
    """Count the combinations of the keys that are left, given values that conditions look at."""
    if not space:
        return 1
    first, *rest = space
    if not first.is_active(values):
        return _count(rest, values)
    conditions = [one.conditions[first.path] for one in rest if first.path in one.conditions]
    if not conditions:
        return len(first.values) * _count(rest, values)
    # Values that meet the same conditions have equally many combinations: one of them is counted.
    meeting = {tuple(value in met for met in conditions): value for value in first.values}
    sizes = collections.Counter(tuple(v in met for met in conditions) for v in first.values)
    return sum(
        sizes[which] * _count(rest, {**values, first.path: value})
        for which, value in meeting.items()
    )


def expected_trials(config: Config) -> int:
    """Return how many trials a sweep makes; a random one may find no new values a little earlier.

    Args:
        config: checked, with a `tune` section.
    """
    if config.tune.algorithm == "hyperband":
        return sum(map(sum, _hyperband_sizes(config.train.epochs)))
    count, most = count_combinations(space_of(config)), config.tune.max_trials
    return count if most is None else min(most, count)


def hyperband_starts(epochs: int) -> int:
    """Return how many combinations hyperband starts, over all of its brackets."""
    return sum(sizes[0] for sizes in _hyperband_sizes(epochs))


def _hyperband_sizes(epochs: int) -> list[list[int]]:
    """Return how many trials each round of each bracket has, by keras-tuner's formula."""
    brackets, left = 0, float(epochs)
    while left >= 1:
        brackets, left = brackets + 1, left / HYPERBAND_FACTOR
    last = math.ceil(1 + math.log(epochs, HYPERBAND_FACTOR))
    return [
        [math.ceil(last / (n + 1) * HYPERBAND_FACTOR ** (n - round)) for round in range(n + 1)]
        for n in range(brackets)
    ]
