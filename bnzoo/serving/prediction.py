"""Ask an exported model about image files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from bnzoo.config import Config
from bnzoo.config.problems import check
from bnzoo.errors import InputError
from bnzoo.serving.image_bytes import INPUT_NAME
from bnzoo.serving.layout import exported_models, find_export
from bnzoo.serving.saved_model import (
    SERVE_BYTES,
    SERVING_DEFAULT,
    load_saved_model,
    read_metadata,
)


def is_export(path: Path) -> bool:
    """Tell whether a folder holds exported models, or is one or a version of one."""
    return bool(exported_models(path))


def open_export(export: Path) -> tuple[Callable, Config, dict[str, Any]]:
    """Open an exported classifier together with what it knows of its training.

    Args:
        export: a version's folder, or the model's: then it is the newest version.

    Returns:
        A function from inputs of shape (batch, *input_shape) to logits of shape (batch, classes),
        the config of the run, and `data` of its summary.

    Raises:
        InputError: there is no such export, it is no classifier, or it was exported from a
            `.keras` file, which knows no data.
    """
    folder = find_export(export)
    serve = load_saved_model(folder).signatures[SERVING_DEFAULT]
    metadata = read_metadata(folder)
    if "config" not in metadata or "probabilities" not in serve.structured_outputs:
        raise InputError(
            f"{folder}: expected the export of a classifier's run, got one that does not know its "
            "data or its classes. Export a run, study or sweep folder."
        )

    def logits_of(inputs: np.ndarray) -> np.ndarray:
        answer = serve(inputs=tf.constant(inputs))
        if "logits" in answer:
            return answer["logits"].numpy()
        return np.log(np.maximum(answer["probabilities"].numpy(), np.finfo(np.float32).tiny))

    return logits_of, check(Config, metadata["config"], str(folder)), metadata["data"]


def predict_images(
    export: str | Path, images: Sequence[str | Path]
) -> list[list[tuple[str, float]]]:
    """Return what an exported model makes of image files.

    Args:
        export: a version's folder, or the model's: then it is the newest version.
        images: PNG or JPEG files of any size.

    Returns:
        For each image, in order, (name, probability) of every class, the most probable first.

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
    for image in images:
        try:
            answer = serve(**{INPUT_NAME: tf.constant([Path(image).read_bytes()])})
        except OSError as error:
            raise InputError(
                f"{image}: expected an image file, got: {error.strerror}. Check the path."
            ) from None
        except tf.errors.InvalidArgumentError:
            bad.append(str(image))
            continue
        probabilities = answer["probabilities"].numpy()[0]
        order = np.argsort(-probabilities, kind="stable")
        predictions.append(
            [(names[i] if names else str(i), float(probabilities[i])) for i in order]
        )
    if bad:
        raise InputError(
            f"{', '.join(bad)}: cannot be decoded; expected whole PNG or JPEG images of at most 16 "
            "million pixels. Leave such files out, or convert them."
        )
    return predictions
