"""A user's own arrays: `x_train y_train x_test y_test`, and `class_names`, in one npz file."""

import reprlib
import zipfile
from pathlib import Path

import numpy as np

from bnzoo.config.data import Data
from bnzoo.data.preprocessing import PIXEL_SCALE
from bnzoo.data.source import Source, array_examples, image_shape
from bnzoo.environment import memory_bytes
from bnzoo.errors import InputError
from bnzoo.files import user_path

ARRAYS = ("x_train", "y_train", "x_test", "y_test")

MAX_PIXEL = 255.0

DIM_PIXEL = 127.0
"""In a whole set of images with 8 bits a channel some pixel is brighter than this.

Floats that stay below it have another scale: [0, 1], standard deviations, 4 bits, radiances.
"""


def open_npz(path: str, settings: Data, memory_limit: int) -> Source:
    """Read the arrays of one file.

    Arrays of shape (n, height, width, channels) or (n, height, width) are images; those of any
    other shape (n, ...) are features. `view: rows` makes sequences (n, steps, features) of images.

    uint8 values are scaled to [0, 1]. So are floats of images where those of `x_train` are 8-bit
    pixels: none below 0, the largest above `DIM_PIXEL` and at most 255. Other floats are kept as
    they are, as float32. `Source.reading` says which of it was done.

    Args:
        path: of the file.
        settings: gives image size and color mode, for uint8 images.
        memory_limit: bytes; images that resizing would make larger are resized batch by batch.
    """
    file = user_path(path)
    arrays = _read(file)
    try:
        features = [_check_features(split, arrays) for split in ("train", "test")]
        are_pixels = _check_alike(*features)
        labels = [_check_labels(split, arrays) for split in ("train", "test")]
        names = _check_classes(arrays.get("class_names"), *labels)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    train = features[0]
    is_image, is_uint8 = train.ndim == 4, train.dtype == np.uint8
    converts = settings.image_size is not None or settings.color_mode != "auto"
    if converts and not (is_image and is_uint8):
        raise InputError(
            f"{file}: image_size and color_mode were given, but x_train is {train.dtype} of shape "
            f"{train.shape}; expected uint8 images. Remove both settings, or save the images as "
            "uint8."
        )
    shape = image_shape(train.shape[1:], settings) if is_image else train.shape[1:]
    pairs = zip(features, labels, strict=True)
    return Source(
        *(array_examples(*pair, shape, memory_limit) for pair in pairs),
        names,
        shape,
        is_image,
        scale=PIXEL_SCALE if are_pixels else 1.0,
        reading=None if is_uint8 else _reading(train, are_pixels),
    )


def _read(file: Path) -> dict[str, np.ndarray]:
    arrays, where = {}, str(file)
    if not file.is_file():
        raise InputError(f"{file}: expected an npz file, found no such file. Check the path.")
    try:
        # NumPy leaves a broken archive open when it is given the path.
        with (
            file.open("rb") as opened,
            np.lib.npyio.NpzFile(opened, allow_pickle=False) as archive,
        ):
            _check_size(file, archive.zip)
            for name in filter(archive.files.count, (*ARRAYS, "class_names")):
                where = f"{name} of {file}"
                arrays[name] = archive[name]
                if not isinstance(arrays[name], np.ndarray):  # NumPy hands out its bytes
                    raise ValueError("it does not begin as a .npy file does")
    except InputError:
        raise
    except Exception as error:  # NumPy raises whatever comes of parsing a damaged header
        raise InputError(
            f"{where} cannot be read ({error}); expected an npz file of numbers, and of strings "
            "for class_names. Save it with np.savez(path, x_train=..., ...). Python objects are "
            "never unpickled, as that can run code."
        ) from error
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise InputError(
            f"{file} holds {', '.join(archive) or 'no arrays'}; expected {', '.join(ARRAYS)} "
            f"and, if you like, class_names; missing: {', '.join(missing)}. "
            "Save them with np.savez(path, x_train=..., ...)."
        )
    return arrays


def _check_size(file: Path, archive: zipfile.ZipFile) -> None:
    """Refuse what would not fit into memory: a small file may hold a thousand times its size."""
    size = sum(member.file_size for member in archive.infolist())
    if size > memory_bytes():
        raise InputError(
            f"{file}: expected arrays that fit into the {memory_bytes() / 2**30:.1f} GiB of memory "
            f"here, got {size / 2**30:,.1f} GiB. Save images as files in folders, folder:<path>, "
            "which are read batch by batch."
        )


def _check_features(split: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return an array as uint8 or float32, images with their channels."""
    name, x = f"x_{split}", arrays[f"x_{split}"]
    if x.ndim < 2 or x.size == 0 or not (x.dtype == np.uint8 or x.dtype.kind == "f"):
        raise InputError(
            f"{name} is {x.dtype} of shape {x.shape}; expected uint8 images or float features of "
            "shape (examples, ...), not empty. Save examples along the first axis, converted with "
            ".astype('uint8') or .astype('float32')."
        )
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.dtype == np.uint8:
        return x
    with np.errstate(over="ignore"):  # what overflows is reported below
        x = x.astype(np.float32, copy=False)
    bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if bad.any():
        raise InputError(
            f"{name} has NaN or infinite values in {bad.sum()} examples, the first is example "
            f"{int(bad.argmax())}; expected finite numbers. Replace or remove them."
        )
    return x


def _check_alike(train: np.ndarray, test: np.ndarray) -> bool:
    """Refuse arrays that one rule cannot scale; tell whether that rule takes them as pixels."""
    if (train.dtype, train.shape[1:]) != (test.dtype, test.shape[1:]):
        raise InputError(
            f"x_train has examples of shape {train.shape[1:]} and x_test of {test.shape[1:]}, as "
            f"{train.dtype} and {test.dtype}; expected one shape, and both as uint8 or as floats. "
            "Save them alike."
        )
    low, high = sorted((train.max(), test.max()))
    if _are_pixels(train) != _are_pixels(test) and high > 10 * low:
        raise InputError(
            f"x_train has values {_span(train)} and x_test {_span(test)}; expected one range. "
            "Scale both alike, or save both as uint8."
        )
    return _are_pixels(train)


def _are_pixels(x: np.ndarray) -> bool:
    is_scale_of_8_bits = x.min() >= 0 and DIM_PIXEL < x.max() <= MAX_PIXEL
    return x.dtype == np.uint8 or bool(x.ndim == 4 and is_scale_of_8_bits)


def _span(x: np.ndarray) -> str:
    return f"from {x.min():.4g} to {x.max():.4g}"


def _reading(train: np.ndarray, are_pixels: bool) -> str:
    """Say in one line how floats were understood."""
    done = "taken as 8-bit pixels and scaled to [0, 1]" if are_pixels else "kept as they are"
    if not are_pixels and np.abs(train).max() > 10:  # far from what networks learn well from
        done += "; scale them, or save pixels as uint8"
    kind = "images" if train.ndim == 4 else "features"
    return f"Values: x_train has float {kind} of shape {train.shape[1:]}, {_span(train)}; {done}"


def _check_labels(split: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    num_examples, y = len(arrays[f"x_{split}"]), arrays[f"y_{split}"]
    if y.shape not in ((num_examples,), (num_examples, 1)) or y.dtype.kind not in "iu":
        raise InputError(
            f"y_{split} is {y.dtype} of shape {y.shape}; expected a whole number for each of the "
            f"{num_examples} examples of x_{split}. Save as many labels as examples; turn one-hot "
            "rows into numbers with .argmax(axis=1), floats with .astype('int32')."
        )
    return y.reshape(-1)


def _check_classes(
    names: np.ndarray | None, train: np.ndarray, test: np.ndarray
) -> tuple[str, ...]:
    """Return the names of the classes, by default their numbers; every label has one."""
    if names is None:
        known = tuple(map(str, range(len(np.unique(train)))))
        why = f"y_train has {len(known)} different ones"
    else:
        if names.dtype.kind == "S":
            names = np.char.decode(names, "utf-8", "replace")
        known, why = tuple(names.reshape(-1).tolist()), f"class_names has {names.size} names"
        if names.dtype.kind != "U" or len(set(known)) < len(known):
            raise InputError(
                f"class_names has {reprlib.repr(list(known))}; expected strings, a different one "
                "for each class. Save them with np.array(['cat', 'dog'])."
            )
    for split, labels in (("train", train), ("test", test)):
        if labels.min() < 0 or labels.max() >= len(known) or len(known) < 2:
            raise InputError(
                f"y_{split} has labels from {labels.min()} to {labels.max()}; expected two classes "
                f"or more, counted from 0 without gaps, and {why}. Renumber the classes, or save a "
                "name for each as class_names."
            )
    return known
