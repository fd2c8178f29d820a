"""From a Keras model to a SavedModel that a server can hold."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bnzoo import environment
from bnzoo.data.preprocessing import Preprocessing
from bnzoo.errors import InputError
from bnzoo.serving import parity
from bnzoo.serving.layout import METADATA_FILE, MODEL_CARD_FILE, check_target, publish
from bnzoo.serving.model_card import model_card
from bnzoo.serving.saved_model import write_saved_model
from bnzoo.serving.signature import input_spec, output_kind
from bnzoo.serving.warmup import write_warmup_requests
from bnzoo.surgery import fold_batch_norm, has_batch_norm


def export_saved_model(
    model: keras.Model,
    path: str | Path,
    version: int | None = None,
    fold: bool = True,
    *,
    output: str = "auto",
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    examples: np.ndarray | None = None,
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Write a model as a versioned SavedModel for serving.

    The signature `serving_default` takes `inputs`, a float tensor of the model's shape with any
    batch size, and refuses other shapes with an error instead of the death of the process. A
    model of logits answers `logits`, `probabilities` and `class_id`; one of probabilities the last
    two; any other `outputs`. A row with a NaN in it answers NaN. Where `preprocessing` is that of
    images, `serve_bytes` takes `image_bytes`, encoded PNG or JPEG images, and answers the same.

    The export is loaded again in a new process and compared with `model.predict` before it is put
    in place.

    Args:
        model: a built Keras model with one input and one output; TensorFlow backend.
        path: the model's folder; versions lie in it as `1/`, `2/`, ...
        version: version number of at least 1; None takes the next free one.
        fold: merge batch normalization into its neighbours (`bnzoo.fold_batch_norm`).
        output: what the model's output is: `"logits"`, `"probabilities"`, `"outputs"`, or
            `"auto"` to find out (a softmax at the end; a last layer named `logits`; a loss
            `from_logits`).
        class_names: one for each class, in the order of the labels; `serve_bytes` then answers
            `class_name` too. `splits.class_names` has them.
        preprocessing: how the model's inputs were made of images: `splits.preprocessing`.
        examples: inputs of shape (n, *input_shape) to compare on; None takes random numbers.
        metadata: more JSON-able facts that are kept in the export's `bnzoo.json`.

    Returns:
        The new folder, `path/version`.

    Raises:
        InputError: the model has several inputs or outputs, the target cannot be used, or
            another argument does not fit.
        RuntimeError: the export answers otherwise than the model; nothing is left behind.
    """
    path = Path(path)
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"A SavedModel needs Keras' tensorflow backend, got {keras.backend.backend()!r}. "
            "Set KERAS_BACKEND=tensorflow; a .keras file loads on every backend."
        )
    spec, kind = input_spec(model), output_kind(model, output)
    _check_class_names(model, class_names)
    _check_preprocessing(spec, preprocessing)
    fold = fold and has_batch_norm(model)
    check_target(path, version)
    served = fold_batch_norm(model) if fold else model

    def write(folder: Path) -> None:
        signatures = write_saved_model(served, folder, kind, preprocessing, class_names)
        batches = parity.sample_inputs(model, examples)
        write_warmup_requests(folder, path.name, signatures, batches[0], preprocessing)
        facts = {
            "model": model.name,
            "input_shape": list(spec.shape[1:]),
            "output": kind,
            "folded": fold,
            "signatures": _describe_signatures(folder, signatures),
            "class_names": list(class_names) if class_names else None,
            "preprocessing": preprocessing.to_dict() if preprocessing else None,
            **(metadata or {}),
            "parity": _check_parity(model, kind, folder, examples),
            "versions": environment.versions(),
        }
        (folder / METADATA_FILE).write_text(json.dumps(facts, indent=2) + "\n")
        (folder / MODEL_CARD_FILE).write_text(model_card(path.name, facts))

    return publish(path, version, write)


def _check_class_names(model: keras.Model, names: Sequence[str] | None) -> None:
    classes = model.outputs[0].shape[-1]
    if names and len(names) != classes:
        raise InputError(
            f"class_names: expected one for each of the {classes} outputs of {model.name!r}, got "
            f"{len(names)}. Give them in the order of the labels, or leave them out."
        )


def _check_preprocessing(spec: tf.TensorSpec, preprocessing: Preprocessing | None) -> None:
    if preprocessing is None or preprocessing.image_size is None:
        return
    (height, width), channels = preprocessing.image_size, preprocessing.channels
    made = {
        "image": (height, width, channels),
        "rows": (height, width * channels),
        "flat": (height * width * channels,),
    }[preprocessing.layout]
    if not tf.TensorShape(made).is_compatible_with(spec.shape[1:]):
        raise InputError(
            f"preprocessing: expected one that makes inputs of shape {tuple(spec.shape[1:])}, got "
            f"one that makes {made}. Give that of the data the model was trained on, or leave it "
            "out."
        )


def _describe_signatures(folder: Path, names: list[str]) -> dict[str, Any]:
    loaded = tf.saved_model.load(str(folder)).signatures

    def describe(specs: dict[str, tf.TensorSpec]) -> dict[str, Any]:
        return {
            name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for name, spec in specs.items()
        }

    return {
        name: {
            "inputs": describe(loaded[name].structured_input_signature[1]),
            "outputs": describe(loaded[name].structured_outputs),
        }
        for name in names
    }


def _check_parity(
    model: keras.Model, kind: str, folder: Path, examples: np.ndarray | None
) -> dict[str, Any]:
    difference = parity.measure_parity(model, kind, folder, examples)
    allowed = parity.tolerance(model)
    if not difference <= allowed:  # also when the difference is NaN
        raise RuntimeError(
            f"The export of {model.name!r} differs from model.predict by {difference:.3g} of the "
            f"largest answer; at most {allowed:g} was expected. Nothing was exported."
        )
    return {
        "largest_relative_difference": difference,
        "allowed": allowed,
        "inputs": "random numbers" if examples is None else "real examples",
        "batch_sizes": list(parity.BATCH_SIZES),
    }
