"""Ask an exported model about image files."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from bnzoo.errors import InputError
from bnzoo.serving.image_bytes import INPUT_NAME
from bnzoo.serving.layout import find_export
from bnzoo.serving.saved_model import SERVE_BYTES, load_saved_model, read_metadata


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model makes of one image.

    Attributes:
        image: the file.
        classes: (name, probability) of every class, the most probable first.
    """

    image: Path
    classes: tuple[tuple[str, float], ...]


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
    loaded = load_saved_model(folder)
    serve = dict(loaded.signatures).get(SERVE_BYTES)
    if serve is None or "probabilities" not in serve.structured_outputs:
        raise InputError(
            f"{folder}: expected an export with the signature {SERVE_BYTES} and classes, got one "
            f"with {', '.join(sorted(loaded.signatures))}, which does not take encoded images. "
            "Export a run that was trained on images as a classifier."
        )
    names, predictions, bad = read_metadata(folder).get("class_names"), [], []
    for path in map(Path, images):
        try:
            answer = serve(**{INPUT_NAME: tf.constant([_read(path)])})
        except tf.errors.InvalidArgumentError:
            bad.append(str(path))
            continue
        probabilities = answer["probabilities"].numpy()[0]
        order = np.argsort(-probabilities, kind="stable")
        classes = ((names[i] if names else str(i), float(probabilities[i])) for i in order)
        predictions.append(Prediction(path, tuple(classes)))
    if bad:
        raise InputError(
            f"{', '.join(bad)}: cannot be decoded; expected whole PNG or JPEG images of at most 16 "
            "million pixels. Leave such files out, or convert them."
        )
    return predictions


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: expected an image file, got: {error.strerror}. Check the path."
        ) from None
