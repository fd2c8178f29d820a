"""How many trials a sweep makes."""

import itertools
import math

from bnzoo.config.schema import Config
from bnzoo.config.space import Dimension, combinations, space_of

HYPERBAND_FACTOR = 3  # of keras-tuner: one trial in three goes on, for three times the epochs


def count_combinations(space: list[Dimension], most: int) -> int:
    """Return how many combinations there are, or `most + 1` where there are more."""
    return sum(1 for _ in itertools.islice(combinations(space), most + 1))


def expected_trials(config: Config) -> int:
    """Return how many trials a sweep makes; a random one may find no new values a little earlier.

    Args:
        config: checked, with a `tune` section.
    """
    if config.tune.algorithm == "hyperband":
        return sum(map(sum, _hyperband_sizes(config.train.epochs)))
    most = config.tune.max_trials
    if most is None:
        return sum(1 for _ in combinations(space_of(config)))
    return min(most, count_combinations(space_of(config), most))


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
