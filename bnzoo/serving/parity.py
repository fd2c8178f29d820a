"""Does an exported model, loaded by a process that knows nothing of bnzoo, answer as ours does?"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import scipy.special

from bnzoo.serving.signature import input_spec

# Largest |difference| / largest |answer|: rounding of float32 through a network, and of float16.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}
BATCH_SIZES = (1, 7, 128)
UNKNOWN_SIZE = 16  # stands in for a dimension that the model leaves open

Ask = Callable[[Path, list[np.ndarray]], list[dict[str, np.ndarray]]]


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


def measure_parity(
    model: keras.Model,
    kind: str,
    export: Path,
    examples: np.ndarray | None = None,
    ask: Ask | None = None,
) -> float:
    """Load `export` in a new process and compare all of its answers with `model.predict`.

    Args:
        model: the model that was exported.
        kind: of its output (`signature.output_kind`).
        export: the folder of the SavedModel.
        examples: inputs to compare on, see `sample_inputs`.
        ask: how to ask it: `ask_saved_model_cli`, or by default `tf.saved_model.load`.

    Returns:
        The largest absolute difference over the largest absolute value of an output, the worst of
        its outputs; NaN if an answer is.

    Raises:
        RuntimeError: the new process could not load or call the export.
    """
    batches = sample_inputs(model, examples)
    answers = (ask or _ask_new_process)(export, batches)
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
        _run(export, [str(script), str(export), str(asked), str(answered)])
        answers: list[dict[str, np.ndarray]] = [{} for _ in batches]
        with np.load(answered) as arrays:
            for key in arrays.files:
                position, _, name = key.partition("/")
                answers[int(position)][name] = arrays[key].astype("float32")
        return answers


def ask_saved_model_cli(export: Path, batches: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Ask an export by `saved_model_cli run`, TensorFlow's own tool, once for each batch.

    Raises:
        RuntimeError: it could not load or call the export.
    """
    answers = []
    for batch in batches:
        with tempfile.TemporaryDirectory() as folder:
            asked, answered = Path(folder, "inputs.npy"), Path(folder, "answers")
            np.save(asked, batch)
            tool = ["-m", "tensorflow.python.tools.saved_model_cli", "run"]
            where = ["--dir", str(export), "--tag_set", "serve"]
            signature = ["--signature_def", "serving_default"]
            files = ["--inputs", f"inputs={asked}", "--outdir", str(answered)]
            _run(export, [*tool, *where, *signature, *files])
            found = answered.glob("*.npy")
            answers.append({file.stem: np.load(file).astype("float32") for file in found})
    return answers


def _run(export: Path, arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"A new process could not use {export}:\n{done.stderr}")


def tolerance(model: keras.Model) -> float:
    """Return how far an export may be from `predict`, by the precision the model computes in."""
    return max(TOLERANCES.get(layer.compute_dtype, TOLERANCES["float32"]) for layer in model.layers)
