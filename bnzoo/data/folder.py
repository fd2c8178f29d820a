"""Images of one's own: `train/<class>/*` and `test/<class>/*` below one folder."""

from collections import Counter
from pathlib import Path

import numpy as np

from bnzoo.config.data import Data
from bnzoo.data.examples import ArrayExamples, Examples, FileExamples, to_cpu
from bnzoo.data.image_files import ImageReader
from bnzoo.data.source import Source
from bnzoo.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif")

_LAYOUT = "expected <folder>/train/<class>/* and <folder>/test/<class>/*"


def open_folder(path: str, settings: Data, memory_limit: int) -> Source:
    """Read a folder of images.

    Files are taken as they are stored: an EXIF orientation is not applied. Folders beside `train`
    and `test` are not read; validation data is drawn from `train`.

    Every file is decoded once here, so that an unreadable image is found now and not hours into a
    training. Sets above the limit are then decoded again whenever they are needed.

    Args:
        path: of the folder.
        settings: gives image size, colour mode and what to do with unreadable images.
        memory_limit: bytes of decoded images up to which they are kept.
    """
    root = Path(path).expanduser()
    class_names = _check_classes(root)
    splits = {split: _list_images(root / split, class_names) for split in ("train", "test")}
    reader = ImageReader(settings, [paths for paths, _ in splits.values()])
    num_images = sum(len(paths) for paths, _ in splits.values())
    keep = num_images * int(np.prod(reader.shape)) <= memory_limit
    train, test = (
        _read(reader, root / split, *splits[split], class_names, keep)
        for split in ("train", "test")
    )
    return Source(train, test, class_names, reader.shape, skipped=tuple(reader.skipped))


def _read(
    reader: ImageReader,
    folder: Path,
    paths: list[str],
    labels: np.ndarray,
    class_names: tuple[str, ...],
    keep: bool,
) -> Examples:
    images, readable = reader.read(paths, keep)
    labels = labels[readable]
    for label in sorted(set(range(len(class_names))) - set(labels.tolist())):
        raise InputError(
            f"{folder / class_names[label]} has no image that can be read; all of its files were "
            "skipped. Expected at least one. Replace them, or remove the class from train and test."
        )
    if images is not None:
        return ArrayExamples(to_cpu(images), labels)
    return FileExamples(np.array(paths)[readable], labels, reader.shape)


def _check_classes(root: Path) -> tuple[str, ...]:
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise InputError(f"The folder {root} {what}; {_LAYOUT}. Check the path.")
    names = {split: _class_folders(root / split) for split in ("train", "test")}
    train, test = names["train"], names["test"]
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
    if not folder.is_dir():
        found = sorted(entry.name for entry in folder.parent.iterdir())[:5]
        raise InputError(
            f"{folder} does not exist; {_LAYOUT}, found {found or 'an empty folder'}. "
            "Move the images into that layout."
        )
    names = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    if not names:
        raise InputError(f"{folder} has no class folders; {_LAYOUT}. Add one folder per class.")
    return names


def _list_images(folder: Path, class_names: tuple[str, ...]) -> tuple[list[str], np.ndarray]:
    paths, labels = [], []
    for label, name in enumerate(class_names):
        images = _images_of_class(folder / name)
        paths += images
        labels += [label] * len(images)
    return paths, np.array(labels, np.int32)


def _images_of_class(folder: Path) -> list[str]:
    """List what a class folder holds; the reader names or counts what is no image."""
    entries = [path for path in sorted(folder.iterdir()) if not _is_litter(path)]
    if not any(path.suffix.lower() in ENDINGS for path in entries):
        others = dict(Counter(path.suffix.lower() or path.name for path in entries))
        found = f"found only files ending in {others}" if others else "found no files"
        raise InputError(
            f"{folder} has no images: {found}; expected {', '.join(ENDINGS)}. "
            "Add images, or remove the class from train and test."
        )
    return [str(path) for path in entries]


def _is_litter(path: Path) -> bool:
    """Tell whether a file is one that systems leave in every folder (.DS_Store, Thumbs.db)."""
    return path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini")
