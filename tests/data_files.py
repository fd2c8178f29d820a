"""Small data sets written by tests: folders of images, npz files, the Devanagari archive."""

import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf


def write_image(path: Path, image: np.ndarray) -> Path:
    """Encode a uint8 image of shape (height, width, channels) by the ending of its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encode = tf.io.encode_png if path.suffix == ".png" else tf.io.encode_jpeg
    path.write_bytes(encode(image).numpy())
    return path


def numbered_image(number: int, shape: tuple[int, int, int] = (6, 5, 1)) -> np.ndarray:
    """Make an image that no other number makes: its first two pixels spell the number."""
    image = np.random.default_rng(number).integers(0, 256, shape).astype(np.uint8)
    image[0, 0], image[0, 1] = number // 256, number % 256
    return image


def write_folder(
    root: Path,
    per_class: int = 6,
    classes: tuple[str, ...] = ("cat", "dog"),
    shape: tuple[int, int, int] = (6, 5, 1),
) -> Path:
    """Write `train/<class>/*` and `test/<class>/*`, half as many for testing."""
    number = 0
    for split, count in (("train", per_class), ("test", per_class // 2)):
        for name in classes:
            for index in range(count):
                image = numbered_image(number, shape)
                write_image(root / split / name / f"{index}.png", image)
                number += 1
    return root


def arrays(num_train: int = 20, num_test: int = 8, shape=(6, 5, 1), num_classes: int = 4) -> dict:
    """Make the arrays of an npz file: numbered images, labels in turn."""
    x = np.stack([numbered_image(number, shape) for number in range(num_train + num_test)])
    y = np.arange(num_train + num_test) % num_classes
    return {
        "x_train": x[:num_train],
        "y_train": y[:num_train],
        "x_test": x[num_train:],
        "y_test": y[num_train:],
    }


def write_npz(path: Path, **changes) -> Path:
    """Write `arrays()` with these changes; `None` leaves an array out."""
    contents = {**arrays(), **changes}
    np.savez(path, **{name: value for name, value in contents.items() if value is not None})
    return path


def write_devanagari_archive(path: Path, num_train: int = 3, num_test: int = 2) -> Path:
    """Write a small archive in the layout of UCI, with one letter class that must be ignored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    with zipfile.ZipFile(path, "w") as archive:
        for split, count in (("Train", num_train), ("Test", num_test)):
            for name in (*(f"digit_{digit}" for digit in range(10)), "character_1_ka"):
                for index in range(count):
                    png = tf.io.encode_png(numbered_image(number, (32, 32, 1))).numpy()
                    folder = "DevanagariHandwrittenCharacterDataset"
                    archive.writestr(f"{folder}/{split}/{name}/{index}.png", png)
                    number += 1
    return path


def collect(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Iterate once and return all (x, y)."""
    batches = list(dataset.as_numpy_iterator())
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def as_multiset(x: np.ndarray, y: np.ndarray) -> list[tuple[bytes, int]]:
    """Return the examples in an order that does not depend on theirs."""
    return sorted((image.tobytes(), int(label)) for image, label in zip(x, y, strict=True))
