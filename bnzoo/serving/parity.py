"""Does an exported model, loaded by a process that knows nothing of bnzoo, answer as ours does?"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import scipy.special

from bnzoo.serving.signature import input_spec

# Largest |difference| / largest |answer|: rounding of float32 through a network, and of float16.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}
BATCH_SIZES = (1, 7, 128)
UNKNOWN_SIZE = 16  # stands in for a dimension that the model leaves open


class ParityError(RuntimeError):
    """An export does not do what its model does."""


def sample_inputs(model: keras.Model, examples: np.ndarray | None = None) -> list[np.ndarray]:
    """Return inputs to compare on, one array per batch size.

    Args:
        model: gives shape and dtype.
        examples: real inputs of shape (n, *input_shape), repeated if they are few; None takes
            random numbers in [0, 1).
    """
    spec = input_spec(model)
    total = sum(BATCH_SIZES)
    if examples is None:
        shape = [size or UNKNOWN_SIZE for size in spec.shape[1:]]
        examples = np.random.default_rng(0).random((total, *shape))
    rows = np.arange(total) % len(examples)
    chosen = examples[rows].astype(spec.dtype.as_numpy_dtype)
    return np.split(chosen, np.cumsum(BATCH_SIZES)[:-1])


def check_parity(
    model: keras.Model, kind: str, export: Path, batches: list[np.ndarray]
) -> dict[str, Any]:
    """Load `export` in a new process and compare all of its answers with `model.predict`.

    Args:
        model: the model that was exported.
        kind: of its output (`signature.output_kind`).
        export: the folder of the SavedModel.
        batches: what to compare on, arrays of shape (n, *input_shape).

    Returns:
        How far it is from `predict`, and how far it may be by the precision the model computes in.

    Raises:
        ParityError: it is farther, or the new process could not load or call the export.
    """
    difference = largest_difference(model, kind, batches, ask_new_process(export, batches))
    allowed = max(
        TOLERANCES.get(layer.compute_dtype, TOLERANCES["float32"]) for layer in model.layers
    )
    if not difference <= allowed:  # also when the difference is NaN
        raise ParityError(
            f"The export of {model.name!r} differs from model.predict by {difference:.3g} of the "
            f"largest answer; at most {allowed:g} was expected. Nothing was exported."
        )
    return {"largest_relative_difference": difference, "allowed": allowed}


def largest_difference(
    model: keras.Model, kind: str, batches: list[np.ndarray], answers: dict[str, np.ndarray]
) -> float:
    """Compare the answers of an export with `model.predict`.

    Args:
        model: the model that was exported.
        kind: of its output (`signature.output_kind`).
        batches: the inputs, arrays of shape (n, *input_shape).
        answers: float32 array by name, the rows of all batches one after the other.

    Returns:
        The largest absolute difference over the largest absolute value of an output, the worst of
        its outputs; NaN if an answer is.
    """
    predicted = np.concatenate([model.predict(batch, verbose=0) for batch in batches])
    expected = {kind: predicted.astype("float32")}
    if kind == "logits":
        expected["probabilities"] = scipy.special.softmax(expected["logits"], axis=-1)
    smallest = np.finfo("float32").tiny
    differences = [
        np.max(np.abs(answers[name] - ours)) / max(np.max(np.abs(ours)), smallest)
        for name, ours in expected.items()
    ]
    return float(np.max(differences))


def ask_new_process(export: Path, batches: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the answers of an export that a new process has loaded, as `largest_difference` has.

    Raises:
        ParityError: it could not load or call the export.
    """
    # By its path, not as a module: the new process must do without bnzoo.
    script = Path(__file__).with_name("ask_saved_model.py")
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        np.savez(asked, *batches)
        command = [sys.executable, str(script), str(export), str(asked), str(answered)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stdout.strip() or f"it ended with exit code {done.returncode}"
            raise ParityError(f"A new process could not use the export {export}: {reason}")
        with np.load(answered) as answers:
            return dict(answers)
