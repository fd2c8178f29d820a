"""Data of a function of the user's own: arrays, nested ones too, or data sets of batches."""

import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from bnzoo import own_code
from bnzoo.config.data import Data
from bnzoo.data.preprocessing import Preprocessing
from bnzoo.data.randomness import Purpose, stratified_split, stream_key
from bnzoo.data.source import ArrayExamples
from bnzoo.data.splits import EpochCounter, Splits, epoch_by_epoch, prefetched
from bnzoo.errors import InputError, first_sentence

TEST_SHARE = 0.2
"""Of one (x, y) that nobody says more about."""

EXPECTED = (
    "a dict of train and, if there are any, validation and test, each (x, y) in arrays, a "
    "tf.data.Dataset or a keras.utils.PyDataset of batches; or one (x, y)"
)


def open_own(settings: Data, seed: int) -> Splits:
    """Call the function, and split what it returns as far as it has not done so itself.

    Args:
        settings: gives the function, its arguments, batch size, and the shares to hold back.
        seed: of the order of arrays and of the validation split.

    Raises:
        InputError: the function fails, with its file and line; it returns something else, or
            nothing; or what it returns does not fit together.
    """
    offered = {"batch_size": settings.batch_size, "seed": seed}
    found = own_code.call(settings.name, offered, settings.params, "data.params")
    is_whole = not isinstance(found, Mapping)
    given = {"train": found} if is_whole else dict(found)
    names = given.pop("class_names", None)
    if not {"train"} <= set(given) <= {"train", "validation", "test"}:
        raise _unexpected(settings.name, f"a dict of {', '.join(map(str, given)) or 'nothing'}")
    parts = {part: _part(one, f"{settings.name}: {part}") for part, one in given.items()}
    _hold_back(parts, settings, seed, TEST_SHARE if is_whole else "none")
    batched = {part: _batched(one, settings, seed, part) for part, one in parts.items()}
    train = batched["train"]
    for part, one in batched.items():
        if one.input_shape != train.input_shape:
            raise InputError(
                f"{settings.name}: expected examples of one shape, got {train.input_shape} in "
                f"train and {one.input_shape} in {part}. Bring them to one shape."
            )
    return _splits(batched, settings, names)


def _splits(batched: dict[str, "_Batched"], settings: Data, names: Any) -> Splits:
    """Put the parts together; without a test the validation data stands in for it, or train."""
    train, validation = batched["train"], batched.get("validation")
    test = batched.get("test") or validation or train
    validation = {"test": test, "none": None}.get(settings.validation, validation)
    labels = [train.largest_label, test.largest_label]
    classes = None if None in labels else max(labels) + 1
    class_names = tuple(map(str, range(classes or 0) if names is None else names))
    if classes and len(class_names) < classes:
        raise InputError(
            f"{settings.name}: class_names: expected a name for each of the {classes} classes, got "
            f"{len(class_names)}. Add the others."
        )
    return Splits(
        name=settings.name,
        train=train.batches,
        validation=validation and validation.batches,
        test=test.batches,
        num_classes=classes and len(class_names),
        input_shape=train.input_shape,
        class_names=class_names if classes and train.first[1].ndim == 1 else (),
        num_train=train.size,
        num_validation=validation.size if validation else 0,
        num_test=test.size if "test" in batched else 0,
        skipped=(),
        preprocessing=Preprocessing("features", None, None, 1.0),
        reading=None,
        fingerprint=f"{zlib.crc32(str([one.checksum for one in batched.values()]).encode()):08x}",
        _counter=train.counter,
    )


def _unexpected(name: str, received: str) -> InputError:
    return InputError(f"{name}: expected a function that returns {EXPECTED}; got {received}.")


# --- arrays --------------------------------------------------------------------------------------


def _part(part: Any, where: str) -> Any:
    """Return one split as (x, y) in arrays of Keras' dtypes, or the data set that it is."""
    if isinstance(part, tf.data.Dataset | keras.utils.PyDataset):
        return part
    if not isinstance(part, tuple | list) or len(part) != 2:
        is_sequence = isinstance(part, tuple | list)
        raise _unexpected(where, f"{len(part)} parts" if is_sequence else type(part).__name__)
    x, y = (tree.map_structure(lambda one: _array(one, where), _nested(one)) for one in part)
    lengths = [len(one) for one in tree.flatten((x, y))]
    if len(set(lengths)) != 1:
        raise InputError(
            f"{where}: expected as many y as x, got arrays of lengths "
            f"{', '.join(map(str, lengths))}. Return one row for each example."
        )
    if lengths[0] == 0:
        raise _empty(where)
    if _largest_label(y) is not None and y.shape[1:] == (1,):
        y = y[:, 0]
    return x, y


def _empty(where: str) -> InputError:
    return InputError(f"{where}: expected at least one example, got none. Look at the function.")


def _nested(part: Any) -> Any:
    """Return a structure of arrays as it is, and anything else, such as a list, as an array."""
    inside = part.values() if isinstance(part, Mapping) else part
    is_structure = isinstance(part, Mapping | tuple | list) and len(part)
    if is_structure and all(getattr(one, "ndim", 0) or isinstance(one, Mapping) for one in inside):
        return part
    return np.asarray(part)


def _array(one: Any, where: str) -> np.ndarray:
    array = np.asarray(one)
    is_text = array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat)
    if array.ndim == 0 or (array.dtype.kind == "O" and not is_text):
        raise InputError(
            f"{where}: expected arrays of numbers or texts with one row for each example, got "
            f"{array.dtype} of shape {array.shape}. Turn the columns into numbers first."
        )
    return array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array


def _largest_label(y: Any) -> int | None:
    """Return the largest of whole numbers from 0, as classes are; None of anything else."""
    is_classes = isinstance(y, np.ndarray) and y.dtype.kind in "iu" and y.size and y.min() >= 0
    return int(y.max()) if is_classes else None


def _hold_back(parts: dict[str, Any], settings: Data, seed: int, test: float | str) -> None:
    """Take test and validation examples from the arrays of train, where there are none yet."""
    shares = {"test": settings.test or test, "validation": settings.validation}
    for part, share in shares.items():
        if part in parts or isinstance(share, str) or not isinstance(parts["train"], tuple):
            continue
        y = parts["train"][1]
        count = len(tree.flatten(y)[0])
        is_flat = _largest_label(y) is not None and y.ndim == 1
        # Class by class where there are classes: numbers that hardly come twice are none.
        by_class = is_flat and np.unique(y, return_counts=True)[1].min() > 1
        # The test examples are the same for every seed.
        kept, held = stratified_split(
            y if by_class else np.zeros(count, int), share, seed if part == "validation" else 0
        )
        if not len(kept) or not len(held):
            raise InputError(
                f"data.{part}: {share} of the {count} examples of {settings.name} leaves "
                f"{len(kept)} and {len(held)}; expected at least one of both. Set another "
                "fraction, or none."
            )
        for name, rows in ((part, held), ("train", kept)):
            parts[name] = tree.map_structure(lambda one, rows=rows: one[rows], parts["train"])


# --- batches -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Batched:
    """One split in batches, and what is known of it: its first batch has shapes and dtypes."""

    batches: Any
    size: int
    first: tuple
    largest_label: int | None
    checksum: int
    counter: EpochCounter = dataclasses.field(default_factory=EpochCounter)

    @property
    def input_shape(self) -> Any:
        """The shape of one x without the batch; of nested ones each."""
        return tree.map_structure(lambda one: tuple(one.shape[1:]), self.first[0])


def _batched(part: Any, settings: Data, seed: int, name: str) -> _Batched:
    where = f"{settings.name}: {name}"
    if not isinstance(part, tuple):
        return _surveyed(part, where)
    try:
        with tf.device("CPU:0"):
            examples = ArrayExamples(*tree.map_structure(tf.constant, part))
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: {first_sentence(error)}. Return arrays of numbers.") from None
    count, counter, is_train = len(tree.flatten(part)[0]), EpochCounter(), name == "train"

    def epoch(number: Any) -> tf.data.Dataset:
        key = stream_key(seed, number, Purpose.ORDER) if is_train else None
        order = np.arange(count)
        return examples.batches(order, key, settings.batch_size, lambda x, y, indices: (x, y))

    return _Batched(
        prefetched(
            epoch_by_epoch(epoch, counter) if is_train else epoch(0), count, settings.batch_size
        ),
        count,
        part,
        _largest_label(part[1]),
        _checksum(part),
        counter,
    )


def _checksum(part: tuple) -> int:
    checksum = 0
    for one in tree.flatten(part):
        is_text = one.dtype.kind in "OU"
        values = np.array(one.tolist(), "U") if is_text else np.ascontiguousarray(one)
        checksum = zlib.crc32(values.tobytes() if is_text else values, checksum)
    return checksum


def _surveyed(dataset: Any, where: str) -> _Batched:
    """Read a data set of batches once: only so is it known how much it holds."""
    is_keras = isinstance(dataset, keras.utils.PyDataset)
    count = dataset.num_batches if is_keras else int(dataset.cardinality())
    if count in (None, tf.data.INFINITE_CARDINALITY):
        raise InputError(f"{where}: expected a data set that ends, got one that repeats. Drop it.")
    size, count, first, labels = 0, 0, None, []
    for batch in _read(dataset, where):
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise _unexpected(where, f"batches of type {type(batch).__name__}")
        x = tree.flatten(batch[0])[0]
        if not np.ndim(x):
            raise _unexpected(where, "single examples. Add .batch(batch_size)")
        first, count, size = first or batch, count + 1, size + len(x)
        labels.append(_largest_label(batch[1]))
    if not size:
        raise _empty(where)
    if not is_keras:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return _Batched(dataset, size, first, None if None in labels else max(labels), size)


def _read(dataset: Any, where: str) -> Iterator[Any]:
    """Yield batches; what the user's code raises is one line that names its file."""
    batches = iter(numpy_batches(dataset))
    while True:
        with own_code.running(dataset, where):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def numpy_batches(dataset: Any) -> Iterable[tuple]:
    """Yield the batches of a split as NumPy arrays."""
    if isinstance(dataset, keras.utils.PyDataset):
        return (dataset[number] for number in range(dataset.num_batches))
    return dataset.as_numpy_iterator()
