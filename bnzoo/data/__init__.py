"""Data sets as batches that `model.fit` accepts. Importing this loads no TensorFlow."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnzoo.config.data import DATASETS, split_name

if TYPE_CHECKING:
    from bnzoo.data.splits import Splits

__all__ = ["Splits", "check_available", "describe_images", "is_in_place", "list_datasets", "load"]


def load(name: str, *, seed: int = 0, **params: Any) -> "Splits":
    """Load a data set as training, validation and test batches.

    Args:
        name: one of `list_datasets()`, such as `"digits"` or `"folder:photos"`.
        seed: decides the validation split, the order of each epoch, augmentation and random
            lengths; from 0 to 2**32 - 1. Equal seeds give equal batches.
        **params: the other fields of `bnzoo.config.data.Data`, such as `batch_size`; and
            `memory_limit`, the decoded size in bytes up to which a set is kept in memory
            (default 1 GiB).

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
    from bnzoo.data.loading import load_splits

    return load_splits(name, seed=seed, **params)


def check_available(name: str) -> None:
    """Make sure that a data set of TFDS is in place or can be fetched; other names pass.

    Without TensorFlow, so that missing data is reported before the seconds that it takes to start.

    Raises:
        InputError: says how to get the data.
    """
    kind, rest = split_name(name)
    if kind not in ("digits", "folder", "npz"):
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
    if kind in ("digits", "folder", "npz"):
        return kind == "digits" or Path(rest).expanduser().exists()
    from bnzoo.data import preparation

    return preparation.is_prepared(rest or kind)


def list_datasets() -> dict[str, str]:
    """Describe the data sets by name, one line each."""
    return dict(DATASETS)


def __getattr__(name: str) -> Any:
    """Import `Splits` on first use, as it needs TensorFlow."""
    if name == "Splits":
        from bnzoo.data.splits import Splits

        return Splits
    raise AttributeError(f"module 'bnzoo.data' has no attribute {name!r}")
