"""Ask an exported model about image files."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from bnzoo.errors import InputError
from bnzoo.serving.image_bytes import INPUT_NAME
from bnzoo.serving.layout import METADATA_FILE, find_export
from bnzoo.serving.saved_model import SERVE_BYTES

BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model makes of one image.

    Attributes:
        image: the file.
        classes: (name, probability) of every class, the most probable first.
    """

    image: Path
    classes: tuple[tuple[str, float], ...]


def read_facts(export: Path) -> dict[str, Any]:
    """Return the content of an export's `bnzoo.json`; an empty mapping if it has none.

    Raises:
        InputError: it is damaged.
    """
    file = export / METADATA_FILE
    try:
        return json.loads(file.read_text()) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file}: expected the metadata of an export, got: {error}. Export the model again."
        ) from None


def predict_images(export: str | Path, images: Sequence[str | Path]) -> list[Prediction]:
    """Return what an exported model makes of image files.

    Args:
        export: a version's folder, or the model's: then it is the newest version.
        images: PNG or JPEG files of any size.

    Returns:
        One prediction for each image, in order.

    Raises:
        InputError: there is no such export or file, the export does not take encoded images or
            does not know classes, or images cannot be decoded: all of them are named.
    """
    folder = find_export(Path(export))
    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures.get(SERVE_BYTES) if SERVE_BYTES in loaded.signatures else None
    if serve is None or "probabilities" not in serve.structured_outputs:
        raise InputError(
            f"{folder}: expected an export with the signature {SERVE_BYTES} and classes, got one "
            f"with {', '.join(sorted(loaded.signatures))}, which does not take encoded images. "
            "Export a run that was trained on images as a classifier."
        )
    paths = [Path(image) for image in images]
    contents = [_read(path) for path in paths]
    probabilities = np.concatenate(list(_ask(serve, paths, contents)))
    names = read_facts(folder).get("class_names") or [str(i) for i in range(probabilities.shape[1])]
    return [_prediction(*pair, names) for pair in zip(paths, probabilities, strict=True)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: expected an image file, got: {error.strerror}. Check the path."
        ) from None


def _ask(serve, paths: list[Path], contents: list[bytes]) -> Iterator[np.ndarray]:
    for start in range(0, len(contents), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        try:
            answer = serve(**{INPUT_NAME: tf.constant(contents[batch])})
        except tf.errors.InvalidArgumentError:
            # One bad image fails its batch: find out which.
            raise _unreadable(serve, paths[start:], contents[start:]) from None
        yield answer["probabilities"].numpy()


def _unreadable(serve, paths: list[Path], contents: list[bytes]) -> InputError:
    bad = []
    for path, content in zip(paths, contents, strict=True):
        try:
            serve(**{INPUT_NAME: tf.constant([content])})
        except tf.errors.InvalidArgumentError:
            bad.append(str(path))
    return InputError(
        f"{', '.join(bad)}: cannot be decoded; expected whole PNG or JPEG images of at most 16 "
        "million pixels. Leave such files out, or convert them."
    )


def _prediction(path: Path, probabilities: np.ndarray, names: Sequence[str]) -> Prediction:
    order = np.argsort(-probabilities, kind="stable")
    classes = tuple((names[index], float(probabilities[index])) for index in order)
    return Prediction(path, classes)
