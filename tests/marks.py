"""Which tests run where: compiled ones by default or not, and what an older Keras cannot be asked.

Of many like tests only some run by default: XLA takes a second for each, and there are hundreds.
"""

import itertools

import keras
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


def needs_keras(version, why):
    """Skip a test, or a case of one, where Keras is older.

    Args:
        version: the first one that will do, as "3.14".
        why: what the older ones lack.
    """
    installed, needed = (
        [int(part) for part in each.split(".")[:2]] for each in (keras.__version__, version)
    )
    return pytest.mark.skipif(installed < needed, reason=f"needs Keras {version}: {why}")


KERAS_HAS_RENORM = "renorm" in keras.layers.BatchNormalization().get_config()
needs_renorm = needs_keras("3.14", "Keras' own layer has no renorm before")
