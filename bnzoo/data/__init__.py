"""Data sets as batches that `model.fit` accepts. Importing this loads no TensorFlow."""

import dataclasses
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bnzoo.config.data import DATASETS, Data, split_name
from bnzoo.config.problems import check
from bnzoo.errors import InputError
from bnzoo.own_code import is_reference

if TYPE_CHECKING:
    from bnzoo.data.source import Source
    from bnzoo.data.splits import Splits

__all__ = [
    "Splits",
    "check_available",
    "describe_images",
    "is_in_place",
    "list_datasets",
    "load",
    "load_test",
    "numpy_batches",
]

MEMORY_LIMIT = 2**30
MAX_SEED = 2**32 - 1  # what NumPy and Keras accept


def load(
    name: str,
    *,
    seed: int = 0,
    memory_limit: int = MEMORY_LIMIT,
    scale: float | None = None,
    **params: Any,
) -> "Splits":
    """Load a data set as training, validation and test batches.

    Args:
        name: one of `list_datasets()`, such as `"digits"` or `"folder:photos"`; or a function of
            your own, such as `"my_data.py:load"`.
        seed: decides the validation split, the order of each epoch, augmentation and random
            lengths; from 0 to 2**32 - 1. Equal seeds give equal batches.
        memory_limit: decoded size in bytes up to which a set is kept in memory; 1 GiB, of which
            CIFAR-10 takes 0.18.
        scale: factor from values to model inputs, as in `Preprocessing`; by default pixels are
            brought to [0, 1] and other values left as they are.
        **params: the other fields of `bnzoo.config.data.Data`, such as `batch_size`.

    Returns:
        A `Splits`.

    Raises:
        InputError: on unknown names and parameters, and on data that is missing or malformed.

    Example:
        >>> import bnzoo.data
        >>> splits = bnzoo.data.load("digits", batch_size=16)
        >>> splits.input_shape, splits.num_classes
        ((8, 8, 1), 10)
    """
    settings = check(Data, {"name": name, **params}, "data")
    if not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise InputError(
            f"seed: expected a whole number from 0 to {MAX_SEED}, got {seed!r}. For example 0."
        )
    if settings.is_own:
        from bnzoo.data.own import open_own

        return open_own(settings, seed)
    source = _open(settings, memory_limit, scale)
    from bnzoo.data.splits import build_splits

    return build_splits(source, settings, seed)


def load_test(
    name: str, *, seed: int = 0, scale: float | None = None, **params: Any
) -> tuple[Any, "Source | Splits"]:
    """Load the test split alone; class folders may lie in a `folder:<path>` itself.

    Args:
        name: as `load` takes it.
        seed: decides random lengths.
        scale: as `load` takes it.
        **params: as `load` takes them; what is about training is left aside.

    Returns:
        Batches (x, y) as those of `Splits.test`, and the source with its `class_names`, `skipped`
        files and `reading`.

    Raises:
        InputError: as `load`.
    """
    settings = check(Data, {"name": name, **params}, "data")
    if settings.is_own:
        splits = load(**settings.model_dump(), seed=seed)
        return splits.test, splits
    source = _open(settings, MEMORY_LIMIT, scale, only_test=True)
    from bnzoo.data.splits import build_test

    return build_test(source, settings, seed), source


def _open(
    settings: Data, memory_limit: int, scale: float | None, only_test: bool = False
) -> "Source":
    source = _open_source(settings, memory_limit, only_test)
    return source if scale is None else dataclasses.replace(source, scale=scale, reading=None)


def _open_source(settings: Data, memory_limit: int, only_test: bool) -> "Source":
    """Open the source; each is imported only when it is asked for, as they load TensorFlow."""
    kind, rest = split_name(settings.name)
    if kind == "folder":
        from bnzoo.data.folder import open_folder

        return open_folder(rest, settings, memory_limit, only_test)
    if kind == "npz":
        from bnzoo.data.npz import open_npz

        return open_npz(rest, settings, memory_limit)
    if kind == "digits":
        from bnzoo.data.source import open_digits

        return open_digits(settings, memory_limit)
    check_available(settings.name)  # before TensorFlow starts: missing data is reported at once
    from bnzoo.data.tfds_source import open_tfds

    return open_tfds(rest or kind, settings, memory_limit)


def numpy_batches(batches: Any) -> Iterable[tuple]:
    """Yield the batches of a split as NumPy arrays, whichever data set they are."""
    from bnzoo.data.own import numpy_batches

    return numpy_batches(batches)


def check_available(name: str) -> None:
    """Make sure that a data set of TFDS is in place or can be fetched; other names pass.

    Without TensorFlow, so that missing data is reported before the seconds that it takes to start.

    Raises:
        InputError: says how to get the data.
    """
    kind, rest = split_name(name)
    if kind not in ("digits", "folder", "npz") and not is_reference(kind):
        from bnzoo.data import preparation

        preparation.check_available(rest or kind)


def describe_images(name: str) -> tuple[tuple[int | None, ...], int] | None:
    """Return what TFDS knows of a data set without its files, and without TensorFlow.

    Returns:
        (height, width, channels), `None` where they differ, and the number of classes; `None` for
        a name that is not `tfds:<name>`.

    Raises:
        InputError: there is no such data set, or it is none of images with labels.
    """
    kind, rest = split_name(name)
    if kind != "tfds":
        return None
    from bnzoo.data import preparation

    return preparation.describe_images(rest)


def is_in_place(name: str) -> bool:
    """Tell whether loading a data set needs no download; False also for names without files."""
    kind, rest = split_name(name)
    if is_reference(kind):  # only running it would tell
        return False
    if kind in ("digits", "folder", "npz"):
        return kind == "digits" or os.path.exists(os.path.expanduser(rest))
    from bnzoo.data import preparation

    return preparation.find_prepared(rest or kind) is not None


def list_datasets() -> dict[str, str]:
    """Describe the data sets by name, one line each."""
    return dict(DATASETS)


def __getattr__(name: str) -> Any:
    """Import `Splits` on first use, as it needs TensorFlow."""
    if name == "Splits":
        from bnzoo.data.splits import Splits

        return Splits
    raise AttributeError(f"module 'bnzoo.data' has no attribute {name!r}")
