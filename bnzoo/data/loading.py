"""From the name of a data set to its splits."""

from typing import TYPE_CHECKING, Any

from bnzoo.config.data import Data, split_name
from bnzoo.config.problems import check
from bnzoo.errors import InputError

if TYPE_CHECKING:
    from bnzoo.data.source import Source
    from bnzoo.data.splits import Splits

MEMORY_LIMIT = 2**30
"""Decoded bytes up to which a set is kept in memory: CIFAR-10 takes 0.18 of this 1 GiB."""

MAX_SEED = 2**32 - 1  # what NumPy and Keras accept


def load_splits(
    name: str, *, seed: int = 0, memory_limit: int = MEMORY_LIMIT, **params: Any
) -> "Splits":
    """Do what `bnzoo.data.load` says."""
    settings = check(Data, {"name": name, **params}, "data")
    if not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise InputError(
            f"seed: expected a whole number from 0 to {MAX_SEED}, got {seed!r}. For example 0."
        )
    source = _open(settings, memory_limit)
    from bnzoo.data.splits import build_splits

    return build_splits(source, settings, seed)


def _open(settings: Data, memory_limit: int) -> "Source":
    """Open the source; each is imported only when it is asked for, as they load TensorFlow."""
    kind, rest = split_name(settings.name)
    if kind == "folder":
        from bnzoo.data.folder import open_folder

        return open_folder(rest, settings, memory_limit)
    if kind == "npz":
        from bnzoo.data.npz import open_npz

        return open_npz(rest, settings, memory_limit)
    if kind == "digits":
        from bnzoo.data.digits import open_digits

        return open_digits(settings, memory_limit)
    # TFDS finds out without TensorFlow whether its files are in place: what is missing is
    # reported before seconds of imports.
    name = rest or kind
    from bnzoo.data.preparation import prepared_builder

    prepared_builder(name)
    from bnzoo.data.tfds_source import open_tfds

    return open_tfds(name, settings, memory_limit)
