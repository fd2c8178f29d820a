"""From a Keras model to a SavedModel that a server can hold."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bnzoo import data, environment
from bnzoo.config import Config
from bnzoo.data.preprocessing import Preprocessing, to_model_inputs
from bnzoo.errors import InputError
from bnzoo.files import no_empty_folder
from bnzoo.runs import RunFolder, usable_run
from bnzoo.saving import custom_objects_of, load_model
from bnzoo.serving import parity
from bnzoo.serving.layout import check_target, exported_models, publish
from bnzoo.serving.made_up import made_up_inputs
from bnzoo.serving.parity import read_examples
from bnzoo.serving.saved_model import write_metadata, write_saved_model, write_warmup_requests
from bnzoo.serving.signature import input_spec, output_kind
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
        fold: merge batch normalization into its neighbors (`bnzoo.fold_batch_norm`). It is kept as
            it was where the model computes in float16 or bfloat16 and merging rounds otherwise by
            more than is allowed.
        output: what the model's output is: `"logits"`, `"probabilities"`, `"outputs"`, or
            `"auto"` to find out (a softmax at the end; a last layer named `logits`; a loss
            `from_logits`).
        class_names: one for each class, in the order of the labels; `serve_bytes` then answers
            `class_name` too. `splits.class_names` has them.
        preprocessing: how the model's inputs were made of images: `splits.preprocessing`.
        examples: inputs of shape (n, *input_shape) to compare on; None makes some up:
            random numbers, or what the layer that reads the inputs knows.
        metadata: JSON-able, kept in the export's `bnzoo.json` too.

    Returns:
        The new folder, `path/version`.

    Raises:
        InputError: the model has several inputs or outputs, the target cannot be used, the model
            cannot be folded or cannot answer the examples, or another argument does not fit.
        ParityError: the export answers otherwise than the model; nothing is left behind.
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
    said = "real examples"
    if examples is None:
        examples, said = made_up_inputs(model, sum(parity.BATCH_SIZES))
    batches = parity.sample_inputs(model, examples)

    def write(folder: Path, served: keras.Model, unfolded_because: str | None = None) -> None:
        signatures = write_saved_model(served, folder, kind, preprocessing, class_names)
        write_warmup_requests(folder, path.name, signatures, batches[0], preprocessing)
        found = {
            "model": model.name,
            "input_shape": list(spec.shape[1:]),
            "output": kind,
            "folded": served is not model,
            "unfolded_because": unfolded_because,
            "signatures": signatures,
            "class_names": list(class_names) if class_names else None,
            "preprocessing": preprocessing.to_dict() if preprocessing else None,
            **(metadata or {}),
            "parity": {
                **parity.check_parity(model, kind, folder, batches),
                "inputs": said,
                "batch_sizes": list(parity.BATCH_SIZES),
            },
            "versions": environment.versions(),
        }
        write_metadata(folder, path.name, found)

    with no_empty_folder(path):
        check_target(path, version)
        if fold and has_batch_norm(model):
            folded = fold_batch_norm(model)
            try:
                return publish(path, version, lambda folder: write(folder, folded))
            except parity.ParityError:
                if parity.computes_in_float32(model):
                    raise
                why = "merged, it rounds otherwise in 16 bits by more than is allowed"
                return publish(path, version, lambda folder: write(folder, model, why))
        return publish(path, version, lambda folder: write(folder, model))


def export_source(
    source: str | Path,
    path: str | Path,
    version: int | None = None,
    fold: bool = True,
    *,
    examples: Path | None = None,
    custom_objects: Path | None = None,
) -> Path:
    """Export a run folder, the best run of a study or a sweep, or a `.keras` file.

    What a run knows of its data goes along, and the export is compared on its test data, if that
    is still there without a download.

    Args:
        source: what to export.
        path: as `export_saved_model`, and so are `version` and `fold`.
        version: see there.
        fold: see there.
        examples: `.npy` file of inputs to compare on instead.
        custom_objects: Python file that defines the model's own layers and functions. It is run.

    Returns:
        The new folder, `path/version`.

    Raises:
        InputError: as `load_model` and `export_saved_model`, the source is an export already, or
            `examples` or `custom_objects` cannot be read.
    """
    source = Path(source)
    if exported_models(source) and not RunFolder(source).config_file.exists():
        raise InputError(
            f"{source}: expected a run, study or sweep folder, or a .keras file, got what was "
            f"exported already. Serve it with `bnzoo serve {source}`, or name the run it came from."
        )
    run = usable_run(source)
    given = {"examples": read_examples(examples)} if examples else {}
    with custom_objects_of(custom_objects):
        with warnings.catch_warnings():
            # A model of mixed precision loaded under another policy; an export has no optimizer.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            # A run's output is known to be logits; elsewhere the loss may tell.
            model = load_model(run, compile=not run.is_dir())
        known = _known_to_run(RunFolder(run), source) if run.is_dir() else {}
        return export_saved_model(model, path, version, fold, **{**known, **given})


def _known_to_run(folder: RunFolder, source: Path) -> dict[str, Any]:
    """Return what a run knows of its data, as arguments of `export_saved_model`."""
    summary, config = folder.summary(), folder.config()
    facts = summary["data"]
    metadata = {"config": config.model_dump(mode="json"), "data": facts, "test": summary["test"]}
    if folder.path != source:
        metadata["run"] = folder.path.relative_to(source).as_posix()
    is_classifier = config.train.loss is None and facts["class_names"]
    return {
        "output": "logits" if is_classifier else "auto",
        "class_names": facts["class_names"],
        "preprocessing": Preprocessing.from_dict(facts["preprocessing"]),
        "examples": run_examples(config),
        "metadata": metadata,
    }


def run_examples(config: Config) -> np.ndarray | None:
    """Return the inputs of a run's test data that an export is compared on.

    Args:
        config: of the run.

    Returns:
        Array of shape (n, *input_shape), or None if the data is not there without a download.
    """
    if not data.is_in_place(config.data.name):
        return None
    try:
        splits = data.load(**config.data.model_dump(), seed=config.seed)
    except InputError:  # it is not what it was any more
        return None
    compared = splits.test.unbatch().batch(sum(parity.BATCH_SIZES))
    inputs, _ = next(compared.as_numpy_iterator())
    return inputs


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
    image = np.zeros((1, *preprocessing.image_size, preprocessing.channels), "uint8")
    made = to_model_inputs(tf.constant(image), preprocessing).shape[1:]
    if not made.is_compatible_with(spec.shape[1:]):
        raise InputError(
            f"preprocessing: expected one that makes inputs of shape {tuple(spec.shape[1:])}, got "
            f"one that makes {tuple(made)}. Give that of the data the model was trained on, or "
            "leave it out."
        )
