"""From a Keras model to a SavedModel that a server can hold."""

import json
from pathlib import Path
from typing import Any

import keras

from bnzoo import environment
from bnzoo.errors import InputError
from bnzoo.loading import load_model
from bnzoo.runs import RunFolder, usable_run
from bnzoo.serving.layout import check_target, publish
from bnzoo.serving.parity import measure_parity, tolerance
from bnzoo.serving.signature import input_spec, output_kind, serving_function

METADATA_FILE = "bnzoo.json"


def export_saved_model(
    model: keras.Model,
    path: str | Path,
    version: int | None = None,
    *,
    output: str = "auto",
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Write a model as a versioned SavedModel for serving.

    The signature `serving_default` takes `inputs`, a float tensor of the model's shape with any
    batch size, and refuses other shapes with an error instead of the death of the process. A
    model of logits answers `logits`, `probabilities` and `class_id`; one of probabilities the last
    two; any other `outputs`. The export is loaded again in a new process and compared with
    `model.predict` before it is put in place.

    Args:
        model: a built Keras model with one input and one output; TensorFlow backend.
        path: the model's folder; versions lie in it as `1/`, `2/`, ...
        version: version number of at least 1; None takes the next free one.
        output: what the model's output is: `"logits"`, `"probabilities"`, `"outputs"`, or
            `"auto"` to find out (a softmax at the end; a last layer named `logits`; a loss
            `from_logits`).
        metadata: JSON-able facts that are kept in the export's `bnzoo.json`.

    Returns:
        The new folder, `path/version`.

    Raises:
        InputError: the model has several inputs or outputs, the target cannot be used, or
            `output` does not fit.
        RuntimeError: the export answers otherwise than the model; nothing is left behind.
    """
    path = Path(path)
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"A SavedModel needs Keras' tensorflow backend, got {keras.backend.backend()!r}. "
            "Set KERAS_BACKEND=tensorflow; a .keras file loads on every backend."
        )
    spec, kind = input_spec(model), output_kind(model, output)
    check_target(path, version)

    def write(folder: Path) -> None:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(
            "serving_default", serving_function(model, kind), input_signature=[spec]
        )
        archive.write_out(str(folder), verbose=False)
        facts = {
            "model": model.name,
            "input_shape": list(spec.shape[1:]),
            "output": kind,
            **(metadata or {}),
            "parity": _check_parity(model, kind, folder),
            "versions": environment.versions(),
        }
        (folder / METADATA_FILE).write_text(json.dumps(facts, indent=2) + "\n")

    return publish(path, version, write)


def export_source(source: str | Path, path: str | Path, version: int | None = None) -> Path:
    """Export a run folder, the best run of a study or a sweep, or a `.keras` file.

    What the run knows of its data goes along.

    Raises:
        InputError: as `load_model` and `export_saved_model`.
    """
    source, run = Path(source), usable_run(source)
    # A run's output is known to be logits; elsewhere the loss may tell.
    model = load_model(run, compile=not run.is_dir())
    metadata = {}
    if run.is_dir():
        folder = RunFolder(run)
        summary = folder.summary()
        metadata = {
            "config": folder.config().model_dump(mode="json"),
            "data": summary["data"],
            "test": summary["test"],
        }
    if run != source:
        metadata["run"] = run.relative_to(source).as_posix()  # which one of them
    return export_saved_model(model, path, version, metadata=metadata)


def _check_parity(model: keras.Model, kind: str, folder: Path) -> dict[str, float]:
    difference, allowed = measure_parity(model, kind, folder), tolerance(model)
    if not difference <= allowed:  # also when the difference is NaN
        raise RuntimeError(
            f"The export of {model.name!r} differs from model.predict by {difference:.3g} of the "
            f"largest answer; at most {allowed:g} was expected. Nothing was exported."
        )
    return {"largest_relative_difference": difference, "allowed": allowed}
