"""Which of many like tests run by default: XLA takes a second for each, and there are hundreds."""

import itertools

import pytest

COMPILED = ("xla", "jit_compile")


def thinned(names, ways, usual):
    """Pair names with ways; what XLA compiles is a slow test except for the usual names.

    Args:
        names: of cases.
        ways: tuples of implementation and mode.
        usual: the names whose compiled ways run by default.

    Returns:
        A list of (name, implementation, mode) for `pytest.mark.parametrize`.
    """
    return [
        pytest.param(
            name,
            *way,
            marks=pytest.mark.slow if set(way) & set(COMPILED) and name not in usual else (),
        )
        for name, way in itertools.product(names, ways)
    ]
