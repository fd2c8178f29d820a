"""Arrays of one's own: `x_train y_train x_test y_test`, and `class_names`, in one npz file."""

import zipfile
from pathlib import Path

import numpy as np

from bnzoo.config.data import Data
from bnzoo.data.examples import ArrayExamples, to_cpu
from bnzoo.data.preprocessing import PIXEL_SCALE
from bnzoo.data.source import Source, array_examples, image_shape
from bnzoo.errors import InputError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")

_MAX_CLASSES = 1_000_000  # far above any real set: a larger label is a mistake, not a class


def open_npz(path: str, settings: Data, memory_limit: int) -> Source:
    """Read the arrays of one file.

    uint8 arrays of shape (n, height, width, channels) or (n, height, width) are images and scaled
    to [0, 1]; uint8 arrays of shape (n, features) are scaled likewise; float arrays are features
    of any shape (n, ...) and kept as they are, as float32.

    Args:
        path: of the file.
        settings: gives image size and colour mode, for images.
        memory_limit: bytes; images that resizing would make larger are resized batch by batch.
    """
    file = Path(path).expanduser()
    arrays = _read(file)
    features = {split: _check_features(file, split, arrays) for split in ("train", "test")}
    if features["train"].shape[1:] != features["test"].shape[1:]:
        raise InputError(
            f"{file}: x_train has examples of shape {features['train'].shape[1:]} and x_test of "
            f"{features['test'].shape[1:]}; expected the same shape. Save both in one shape."
        )
    labels = {split: _check_labels(file, split, arrays) for split in ("train", "test")}
    names = _check_class_names(file, arrays, labels)
    if features["train"].ndim == 4 and features["train"].dtype == np.uint8:
        shape = image_shape(features["train"].shape[1:], settings)
        train, test = (
            array_examples(features[split], labels[split], shape, memory_limit)
            for split in ("train", "test")
        )
        return Source(train, test, names, shape)
    return _feature_source(file, features, labels, names, settings)


def _feature_source(
    file: Path,
    features: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    names: tuple[str, ...],
    settings: Data,
) -> Source:
    if settings.image_size is not None or settings.color_mode != "auto":
        raise InputError(
            f"{file}: image_size and color_mode were given, but x_train is {_describe(features)}; "
            "expected uint8 images. Remove both settings, or save the images as uint8."
        )
    is_uint8 = features["train"].dtype == np.uint8
    train, test = (
        ArrayExamples(to_cpu(features[split]), labels[split]) for split in ("train", "test")
    )
    shape = features["train"].shape[1:]
    scale = PIXEL_SCALE if is_uint8 else 1.0
    return Source(train, test, names, shape, is_image=len(shape) == 3, scale=scale)


def _describe(features: dict[str, np.ndarray]) -> str:
    return f"{features['train'].dtype} of shape {features['train'].shape}"


def _read(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise InputError(f"{file} {what}; expected an npz file. Check the path.")
    # NumPy leaves a broken archive open when it is given the path.
    with file.open("rb") as opened:
        try:
            archive = np.load(opened, allow_pickle=False)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise _no_npz(file, str(error)) from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise _no_npz(file, "it holds a single array")
        return _read_arrays(file, archive)


def _read_arrays(file: Path, archive: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    missing = [name for name in ARRAYS if name not in archive.files]
    if missing:
        raise InputError(
            f"{file} holds {', '.join(archive.files) or 'no arrays'}; expected "
            f"{', '.join(ARRAYS)} and, if you like, class_names; missing: "
            f"{', '.join(missing)}. Save them with np.savez(path, x_train=..., ...)."
        )
    wanted = [*ARRAYS, *(["class_names"] if "class_names" in archive.files else [])]
    return {name: _read_array(file, archive, name) for name in wanted}


def _no_npz(file: Path, reason: str) -> InputError:
    return InputError(
        f"{file} is not an npz file ({reason}); expected one with {', '.join(ARRAYS)}. "
        "Save it with np.savez(path, x_train=..., ...)."
    )


def _read_array(file: Path, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return archive[name]
    except ValueError as error:  # what NumPy raises on pickled objects
        raise InputError(
            f"{file}: {name} is an array of Python objects; expected numbers (or strings, for "
            "class_names). Objects are never unpickled, as that can run code: save it with a "
            "plain dtype."
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{file}: {name} cannot be read ({error}); expected a whole array. Save the file again."
        ) from error


def _check_features(file: Path, split: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    name, x, y = f"x_{split}", arrays[f"x_{split}"], arrays[f"y_{split}"]
    if x.ndim < 2 or x.size == 0:
        raise InputError(
            f"{file}: {name} has shape {x.shape}; expected (examples, ...) with at least one "
            "example and one value. Save examples along the first axis."
        )
    if y.ndim == 0 or len(x) != len(y):
        raise InputError(
            f"{file}: {name} has {len(x)} examples and y_{split} {y.size} labels; expected as many "
            "of both. Save them together."
        )
    if x.dtype == np.uint8:
        return x[..., np.newaxis] if x.ndim == 3 else x
    if x.dtype.kind != "f":
        raise InputError(
            f"{file}: {name} is {x.dtype}; expected uint8 images or float features. "
            "Convert it with .astype('uint8') or .astype('float32')."
        )
    with np.errstate(over="ignore"):  # what overflows is reported below
        x = x.astype(np.float32, copy=False)
    bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if bad.any():
        raise InputError(
            f"{file}: {name} has NaN or infinite values in {bad.sum()} examples, the first is "
            f"example {int(bad.argmax())}; expected finite numbers. Replace or remove them."
        )
    return x


def _check_labels(file: Path, split: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    name, y = f"y_{split}", arrays[f"y_{split}"]
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise InputError(
            f"{file}: {name} is {y.dtype} of shape {y.shape}; expected whole numbers of shape "
            "(examples,). Turn one-hot rows into numbers with .argmax(axis=1), floats with "
            ".astype('int32')."
        )
    if y.min() < 0 or y.max() >= _MAX_CLASSES:
        wrong = int(y.min()) if y.min() < 0 else int(y.max())
        raise InputError(
            f"{file}: {name} has the label {wrong}; expected labels counting from 0. "
            "Renumber the classes."
        )
    return y.astype(np.int32)


def _check_class_names(
    file: Path, arrays: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> tuple[str, ...]:
    largest = {split: int(values.max()) for split, values in labels.items()}
    if "class_names" in arrays:
        names = _read_names(file, arrays["class_names"])
        for split, label in largest.items():
            if label >= len(names):
                raise InputError(
                    f"{file}: y_{split} has the label {label}, but class_names has {len(names)} "
                    f"names; expected labels from 0 to {len(names) - 1}. Add the missing names."
                )
        return names
    if largest["test"] > largest["train"]:
        raise InputError(
            f"{file}: y_test has the label {largest['test']}, above the largest of y_train, "
            f"{largest['train']}; expected the classes of y_train. Renumber the classes."
        )
    absent = sorted(set(range(largest["train"] + 1)) - set(np.unique(labels["train"]).tolist()))
    if absent or largest["train"] == 0:
        raise InputError(
            f"{file}: y_train has labels up to {largest['train']}, and no example of "
            f"{absent[:5] or 'a second class'}; expected two classes or more, counted from 0 "
            "without gaps. Renumber the classes, or save class_names beside them."
        )
    return tuple(str(label) for label in range(largest["train"] + 1))


def _read_names(file: Path, names: np.ndarray) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "US" or len(names) < 2:
        raise InputError(
            f"{file}: class_names is {names.dtype} of shape {names.shape}; expected at least two "
            "strings. Save it with np.array(['cat', 'dog'])."
        )
    texts = [
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        for name in names.tolist()
    ]
    repeated = sorted({text for text in texts if texts.count(text) > 1})
    if repeated:
        raise InputError(
            f"{file}: class_names has {repeated[0]!r} more than once; expected a different name "
            "for each class. Rename one of them."
        )
    return tuple(texts)
