"""Lists of seeds, as studies and sweeps have them."""

from typing import Any


def as_seeds(value: Any) -> tuple[int, ...]:
    """Return a list of different seeds as a tuple.

    Raises:
        ValueError: it is something else.
    """
    seeds = list(value) if isinstance(value, list | tuple) else value
    if (
        not isinstance(seeds, list)
        or not seeds
        or not all(_is_seed(seed) for seed in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        raise ValueError(
            "expected a list of different whole numbers from 0, at least one, "
            f"got {seeds!r}. For example [0, 1, 2]."
        )
    return tuple(seeds)


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32
