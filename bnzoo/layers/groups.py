"""How the channels of an example are divided for group normalization."""

import math
from collections.abc import Sequence


def fitting_groups(groups: int, shape: Sequence[int | None], axis: int = -1) -> int:
    """Return the number of groups that `keras.layers.GroupNormalization` can have for an input.

    Args:
        groups: the most that are wanted.
        shape: of the input with its batch axis, `None` for sizes that are not known.
        axis: of the channels.

    Returns:
        The greatest common divisor of `groups` and the number of channels, as all groups have one
        size; 1 where an example has no other positions than its channels, for a few of them alone
        have no statistics.
    """
    axis %= len(shape)
    places = [size for at, size in enumerate(shape) if at not in (0, axis)]
    return math.gcd(groups, shape[axis]) if any(size != 1 for size in places) else 1
