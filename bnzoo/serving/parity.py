"""Does an exported model, loaded by a process that knows nothing of bnzoo, answer as ours does?"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import scipy.special
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from bnzoo.errors import InputError, first_sentence
from bnzoo.serving.made_up import made_up_inputs
from bnzoo.serving.signature import input_spec

# Largest |difference| / largest |answer|: rounding of float32 through a network, and of float16.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}
BATCH_SIZES = (1, 7, 128)


class ParityError(RuntimeError):
    """An export does not do what its model does."""


def sample_inputs(model: keras.Model, examples: np.ndarray | None = None) -> list[np.ndarray]:
    """Return inputs to compare on, one array per batch size.

    Args:
        model: gives shape and dtype.
        examples: inputs of shape (n, *input_shape), repeated if they are few; None makes some up
            (`made_up_inputs`).

    Raises:
        InputError: `examples` are none of the model's inputs.
    """
    spec, total = input_spec(model), sum(BATCH_SIZES)
    if examples is None:
        examples, _ = made_up_inputs(model, total)
    examples = np.asarray(examples)
    if not len(examples) or not spec.shape.is_compatible_with(examples.shape):
        raise InputError(
            f"examples: expected inputs of shape {('n', *spec.shape[1:])} of {model.name!r}, got "
            f"an array of shape {examples.shape}. Give some of the data it was trained on."
        )
    chosen = examples[np.arange(total) % len(examples)].astype(spec.dtype.as_numpy_dtype)
    return np.split(chosen, np.cumsum(BATCH_SIZES)[:-1])


def read_examples(file: Path) -> np.ndarray:
    """Read inputs of a model from a `.npy` file.

    Raises:
        InputError: there is none, or it holds Python objects.
    """
    try:
        with file.open("rb") as opened:
            return np.lib.format.read_array(opened, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(
            f"{file}: expected an array saved by numpy.save (strings as dtype S or U), got: "
            f"{first_sentence(error)}. Check the path, or save it again."
        ) from None


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
        How far it is from `predict`, how far it may be by the precision the model computes in, and
        whether the answer to all inputs is the same, which makes the comparison worth little.

    Raises:
        InputError: the model cannot answer the inputs.
        ParityError: it is farther, or the new process could not load or call the export.
    """
    expected = _expected_answers(model, kind, batches)
    difference = _largest_difference(expected, ask_new_process(export, batches))
    allowed = _allowed_difference(model)
    if not difference <= allowed:  # also when the difference is NaN
        raise ParityError(
            f"The export of {model.name!r} differs from model.predict by {difference:.3g} of the "
            f"largest answer; at most {allowed:g} was expected. Nothing was exported."
        )
    rows = expected[kind]
    return {
        "largest_relative_difference": difference,
        "allowed": allowed,
        "same_answer_to_all": bool((rows == rows[0]).all()),
    }


def computes_in_float32(model: keras.Model) -> bool:
    """Tell whether every layer of a model computes in float32 or better."""
    return _allowed_difference(model) == TOLERANCES["float32"]


def _allowed_difference(model: keras.Model) -> float:
    dtypes = (layer.compute_dtype for layer in model.layers)
    return max(TOLERANCES.get(dtype, TOLERANCES["float32"]) for dtype in dtypes)


def largest_difference(
    model: keras.Model, kind: str, batches: list[np.ndarray], answers: dict[str, np.ndarray]
) -> float:
    """Compare the answers of an export with `model.predict`.

    Args:
        model: the model that was exported.
        kind: of its output (`signature.output_kind`).
        batches: the inputs, arrays of shape (n, *input_shape).
        answers: array by name, the rows of all batches one after the other.

    Returns:
        The largest absolute difference over the largest absolute value of an output, the worst of
        its outputs; NaN if an answer is. Of strings 0 or 1: whether any differs.
    """
    return _largest_difference(_expected_answers(model, kind, batches), answers)


def _expected_answers(
    model: keras.Model, kind: str, batches: list[np.ndarray]
) -> dict[str, np.ndarray]:
    try:
        # Keras takes strings as tensors only.
        predicted = [
            model.predict(tf.constant(batch) if batch.dtype == object else batch, verbose=0)
            for batch in batches
        ]
    except Exception as error:  # whatever a user's layer raises
        raise InputError(
            f"model {model.name!r}: it cannot answer the inputs to compare on, such as "
            f"{batches[0].flat[0]!r}: {first_sentence(error)}. Give examples of its data "
            "(examples=..., --examples FILE.npy)."
        ) from error
    expected = {kind: np.concatenate(predicted)}
    if kind == "logits":
        scores = expected["logits"].astype("float32")
        expected["probabilities"] = scipy.special.softmax(scores, axis=-1)
    return expected


def _largest_difference(expected: dict[str, np.ndarray], answers: dict[str, np.ndarray]) -> float:
    return float(np.max([_difference(ours, answers[name]) for name, ours in expected.items()]))


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.dtype == object:
        return float(np.any(ours != theirs))
    ours, theirs = ours.astype("float64"), np.asarray(theirs).astype("float64")
    return np.max(np.abs(theirs - ours)) / max(np.max(np.abs(ours)), np.finfo("float32").tiny)


def ask_new_process(export: Path, batches: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the answers of an export that a new process has loaded, as `largest_difference` has.

    Raises:
        ParityError: it could not load or call the export.
    """
    # By its path, not as a module: the new process must do without bnzoo.
    script = Path(__file__).with_name("ask_saved_model.py")
    with tempfile.TemporaryDirectory() as folder:
        for number, batch in enumerate(batches):  # not as .npy, which has no strings and bfloat16
            proto = tf.make_tensor_proto(batch)
            Path(folder, f"{number:03}.input").write_bytes(proto.SerializeToString())
        command = [sys.executable, str(script), str(export), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stdout.strip() or f"it ended with exit code {done.returncode}"
            raise ParityError(f"A new process could not use the export {export}: {reason}")
        return {
            file.stem: tf.make_ndarray(TensorProto.FromString(file.read_bytes()))
            for file in Path(folder).glob("*.output")
        }
