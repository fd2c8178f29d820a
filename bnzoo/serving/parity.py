"""Does an exported model, loaded by a process that knows nothing of bnzoo, answer as ours does?"""

import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import scipy.special

from bnzoo.serving.signature import input_spec

# Largest |difference| / largest |answer|: rounding of float32 through a network, and of float16.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-1}
BATCH_SIZES = (1, 7)
UNKNOWN_SIZE = 16  # stands in for a dimension that the model leaves open


def sample_inputs(model: keras.Model) -> list[np.ndarray]:
    """Return random inputs in [0, 1) of the model's shape and dtype, one array per batch size."""
    spec = input_spec(model)
    shape = [size or UNKNOWN_SIZE for size in spec.shape[1:]]
    random = np.random.default_rng(0)
    return [random.random((size, *shape)).astype(spec.dtype.as_numpy_dtype) for size in BATCH_SIZES]


def measure_parity(model: keras.Model, kind: str, export: Path) -> float:
    """Load `export` in a new process and compare all of its answers with `model.predict`.

    Args:
        model: the model that was exported.
        kind: of its output (`signature.output_kind`).
        export: the folder of the SavedModel.

    Returns:
        The largest absolute difference over the largest absolute value of an output, the worst of
        its outputs; NaN if an answer is.

    Raises:
        RuntimeError: the new process could not load or call the export.
    """
    batches = sample_inputs(model)
    answers = _ask_new_process(export, batches)
    expected = [_expected(model.predict(batch, verbose=0), kind) for batch in batches]
    return max(
        _difference([ours[name] for ours in expected], [theirs[name] for theirs in answers])
        for name in expected[0]
    )


def _expected(predicted: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    predicted = predicted.astype("float32")
    if kind != "logits":
        return {kind: predicted}
    return {"logits": predicted, "probabilities": scipy.special.softmax(predicted, axis=-1)}


def _difference(expected: list[np.ndarray], received: list[np.ndarray]) -> float:
    largest = max(np.max(np.abs(value)) for value in expected)
    pairs = zip(expected, received, strict=True)
    difference = np.max([np.max(np.abs(ours - theirs)) for ours, theirs in pairs])
    return float(difference / max(largest, np.finfo("float32").tiny))


def _ask_new_process(export: Path, batches: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        np.savez(asked, **{str(position): batch for position, batch in enumerate(batches)})
        # By its path, not as a module: the new process must do without bnzoo.
        script = Path(__file__).with_name("ask_saved_model.py")
        done = subprocess.run(
            [sys.executable, str(script), str(export), str(asked), str(answered)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"A new process could not use {export}:\n{done.stderr}")
        answers: list[dict[str, np.ndarray]] = [{} for _ in batches]
        with np.load(answered) as arrays:
            for key in arrays.files:
                position, _, name = key.partition("/")
                answers[int(position)][name] = arrays[key].astype("float32")
        return answers


def tolerance(model: keras.Model) -> float:
    """Return how far an export may be from `predict`, by the precision the model computes in."""
    return max(TOLERANCES.get(layer.compute_dtype, TOLERANCES["float32"]) for layer in model.layers)
