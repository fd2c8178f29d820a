"""A user's own images: `train/<class>/*` and `test/<class>/*` below one folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from bnzoo.config.data import CHANNELS, Data
from bnzoo.data import preprocessing
from bnzoo.data.source import ArrayExamples, Source, image_shape, to_cpu
from bnzoo.errors import InputError
from bnzoo.files import user_path

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def open_folder(path: str, settings: Data, memory_limit: int, only_test: bool = False) -> Source:
    """Read a folder of images.

    Files are taken as they are stored: an EXIF orientation is not applied. Folders beside `train`
    and `test` are not read; validation data is drawn from `train`.

    Every file is decoded once here, so that an unreadable image is found now and not hours into a
    training. Sets above the limit are then decoded again whenever they are needed.

    Args:
        path: of the folder.
        settings: gives image size, color mode and what to do with unreadable images.
        memory_limit: bytes of decoded images up to which they are kept.
        only_test: leave `train` aside; class folders may then lie in the folder itself.
    """
    root = user_path(path)
    if only_test:
        folders = {"test": root / "test" if (root / "test").is_dir() else root}
        class_names = tuple(_class_folders(folders["test"]))
    else:
        folders = {split: root / split for split in ("train", "test")}
        class_names = _check_classes(root)
    files = {split: _list_images(folder, class_names) for split, folder in folders.items()}
    paths, labels = (np.concatenate(parts) for parts in zip(*files.values(), strict=True))
    shape, readable, images = _decode_all(paths.tolist(), settings, memory_limit)
    num_train = 0 if only_test else np.searchsorted(readable, len(files["train"][0]))

    def decode_batch(batch: tf.Tensor) -> tf.Tensor:
        image = tf.TensorSpec(shape, tf.uint8)
        return tf.map_fn(
            lambda path: _decode(path, shape[2], shape[:2]), batch, fn_output_signature=image
        )

    values, prepare = (paths[readable], decode_batch) if images is None else (images, tf.identity)
    examples = []
    for split, part in (("train", slice(num_train)), ("test", slice(num_train, None))):
        labels_of_split = labels[readable[part]]
        if split in folders:
            _check_every_class(folders[split], class_names, labels_of_split)
        examples.append(ArrayExamples(to_cpu(values[part]), labels_of_split, prepare))
    skipped = tuple(np.delete(paths, readable).tolist())
    return Source(*examples, class_names, shape, skipped=skipped)


def _decode_all(
    paths: list[str], settings: Data, memory_limit: int
) -> tuple[tuple[int, int, int] | None, np.ndarray, np.ndarray | None]:
    """Decode and check every file; the first readable one is what the others must be like.

    Returns:
        (height, width, channels) of every image, `None` where none can be decoded; int array of
        shape (m,), the places in `paths` of the files that could be decoded; and their uint8
        images of shape (m, height, width, channels), or `None` when they take too much.

    Raises:
        InputError: on a file that cannot be decoded, unless the settings let it be skipped, or
            that has another size or another number of channels than the first one.
    """
    readable: list[int] = []
    shape = images = None
    for index, image in _decoded(paths, settings):
        if shape is None:
            first, shape = paths[index], image_shape(image.shape, settings)
            if len(paths) * int(np.prod(shape)) <= memory_limit:
                images = np.empty((len(paths), *shape), np.uint8)
        if image.shape != shape:
            raise InputError(
                f"The image {paths[index]} has the shape {image.shape}, (height, width, channels); "
                f"expected {shape} as in {first}. Set data.image_size to resize all of them, for "
                f"example {list(shape[:2])}, or data.color_mode: grayscale or rgb to convert them."
            )
        if images is not None:
            images[len(readable)] = image
        readable.append(index)
    return shape, np.array(readable, int), images if images is None else images[: len(readable)]


def _decoded(paths: list[str], settings: Data) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the index and pixels of every readable file; the others are refused or left out."""
    channels = CHANNELS.get(settings.color_mode)
    # A device or a pipe has no end; TensorFlow finds no file of the name "".
    readable = [path if os.path.isfile(path) else "" for path in paths]
    dataset = tf.data.Dataset.from_tensor_slices(readable).map(
        lambda path: _decode(path, channels, settings.image_size), tf.data.AUTOTUNE
    )
    iterator = iter(dataset.prefetch(16))
    for index, path in enumerate(paths):
        try:
            image = next(iterator).numpy()
        except tf.errors.OpError:  # the iterator goes on with the next file
            if not settings.skip_unreadable:
                raise InputError(
                    f"The image {path} cannot be read: it is empty, damaged or no image; expected "
                    "PNG, JPEG, BMP or GIF. Replace the file, or set data.skip_unreadable: true "
                    "to leave such files out."
                ) from None
        else:
            yield index, image


def _decode(path: tf.Tensor, channels: int | None, image_size: tuple[int, int] | None) -> tf.Tensor:
    return preprocessing.decode(tf.io.read_file(path), channels, image_size=image_size)


def _check_every_class(folder: Path, class_names: tuple[str, ...], labels: np.ndarray) -> None:
    for label, name in enumerate(class_names):
        if label not in labels:
            raise InputError(
                f"{folder / name} has no image that can be read; all of its files were skipped. "
                "Expected at least one. Replace them, or remove the class from train and test."
            )


def _check_classes(root: Path) -> tuple[str, ...]:
    train, test = (_class_folders(root / split) for split in ("train", "test"))
    if len(train) < 2:
        raise InputError(
            f"{root / 'train'} has one class, {train[0]!r}; expected at least two. "
            "Classification needs something to tell apart: add a folder for another class."
        )
    if train != test:
        only_train, only_test = sorted(set(train) - set(test)), sorted(set(test) - set(train))
        raise InputError(
            f"The classes of {root} differ: only in train {only_train}, only in test {only_test}; "
            "expected the same folders in both. Rename, add or remove class folders."
        )
    return tuple(train)


def _class_folders(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.glob("*/") if entry.name[0] != ".")
    if not names:
        what = "has no class folders" if folder.is_dir() else "does not exist"
        raise InputError(
            f"{folder} {what}; expected <folder>/train/<class>/* and <folder>/test/<class>/*. "
            "Check the path, and add one folder per class with the images in it."
        )
    return names


def _list_images(folder: Path, class_names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    paths = [_images_of_class(folder / name) for name in class_names]
    labels = np.repeat(np.arange(len(paths), dtype=np.int32), [len(images) for images in paths])
    return np.concatenate(paths), labels


def _images_of_class(folder: Path) -> list[str]:
    """List what a class folder holds; the reader names or counts what is no image."""
    # Systems leave .DS_Store, Thumbs.db and desktop.ini in every folder.
    entries = [
        path
        for path in sorted(folder.iterdir())
        if path.name[0] != "." and path.name.lower() not in ("thumbs.db", "desktop.ini")
    ]
    if not any(path.suffix.lower() in ENDINGS for path in entries):
        raise InputError(
            f"{folder} has no images: found {[path.name for path in entries[:5]]}; expected "
            f"{', '.join(ENDINGS)}. "
            "Add images, or remove the class from train and test."
        )
    return [str(path) for path in entries]
