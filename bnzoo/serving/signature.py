"""What a served model answers: one checked input, named outputs."""

from collections.abc import Callable

import keras
import tensorflow as tf

from bnzoo.errors import InputError, nearest

INPUT_NAME = "inputs"
OUTPUT_KINDS = ("logits", "probabilities", "outputs")

DATATYPES = {
    "bool": "BOOL",
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
"""TensorFlow's name of each dtype that can be served, and the Open Inference Protocol's."""


def input_spec(model: keras.Model) -> tf.TensorSpec:
    """Return the model's one input as a spec with unknown batch size.

    Raises:
        InputError: the model is not built, has several inputs or outputs, or one that the Open
            Inference Protocol cannot carry.
    """
    for name in ("inputs", "outputs"):
        found = getattr(model, name, None)
        if not found or len(found) != 1:
            raise InputError(
                f"model {model.name!r}: expected a built model with one input and one output, "
                f"got {len(found) if found else 'none'} of its {name}. "
                "Call it once on data, or export its parts."
            )
        _check_tensor(model, name.removesuffix("s"), found[0])
    tensor = model.inputs[0]
    return tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=INPUT_NAME)


def _check_tensor(model: keras.Model, what: str, tensor: keras.KerasTensor) -> None:
    for name in ("sparse", "ragged"):
        if getattr(tensor, name, False):
            raise InputError(
                f"model {model.name!r}: expected a dense {what}, got a {name} one. "
                "Make it dense inside the model."
            )
    if tensor.dtype not in DATATYPES:
        raise InputError(
            f"model {model.name!r}: expected an {what} of a dtype that can be served "
            f"({', '.join(DATATYPES)}), got {tensor.dtype}. Cast it inside the model."
        )


def output_kind(model: keras.Model, wanted: str = "auto") -> str:
    """Tell what the output of a model is, one of `OUTPUT_KINDS`.

    Args:
        model: with one output.
        wanted: the answer, where the user gives it, or `"auto"`: a softmax at the end gives
            probabilities; logits are what a layer named `logits` gives, as in all of bnzoo's
            models, or a model that was compiled with a loss `from_logits`; of all else nothing
            more is known than that it is an output.

    Raises:
        InputError: an unknown kind, or classes where the output is not (batch, classes).
    """
    output = model.outputs[0]
    has_classes = len(output.shape) == 2 and (output.shape[-1] or 0) > 1
    if wanted == "auto":
        return _found_kind(model) if has_classes else "outputs"
    if wanted not in OUTPUT_KINDS:
        raise InputError(
            f"output: expected one of auto, {', '.join(OUTPUT_KINDS)}, got {wanted!r}. "
            f"{nearest(wanted, OUTPUT_KINDS)}".rstrip()
        )
    if wanted != "outputs" and not has_classes:
        raise InputError(
            f"output: expected a model with an output of shape (batch, classes) for {wanted!r}, "
            f"got shape {tuple(output.shape)}. Use output='outputs'."
        )
    return wanted


def _found_kind(model: keras.Model) -> str:
    layer = model.outputs[0]._keras_history.operation
    while isinstance(layer, keras.Model):
        layer = layer.outputs[0]._keras_history.operation
    activation = getattr(layer, "activation", None) or keras.activations.linear
    if isinstance(layer, keras.layers.Softmax) or activation is keras.activations.softmax:
        return "probabilities"
    named = layer.name == "logits" or getattr(model.loss, "from_logits", False)
    return "logits" if named and activation is keras.activations.linear else "outputs"


def serving_function(model: keras.Model, kind: str) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the function behind `serving_default`.

    The shape is checked inside the graph. A signature's own shape is not enforced, and
    TensorFlow's kernels abort the whole process on a tensor of a rank that the graph promised
    could not come; `tf.ensure_shape` turns that into `InvalidArgumentError`.

    A row of the batch with a NaN in it answers NaN. ReLU and pooling on the CPU drop a NaN, and the
    answer would look like any other.

    Args:
        model: with one input and one output.
        kind: of its output, see `output_kind`.

    Returns:
        A function of one tensor. For logits it answers `logits` and `probabilities`, float32 of
        shape (batch, classes), and `class_id`, int32 of shape (batch,), -1 for a row of
        NaN; for probabilities the same without `logits`; otherwise `outputs`.
    """
    spec = input_spec(model)

    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = _check_shape(inputs, spec.shape)
        outputs = _with_nan_of(inputs, model(inputs, training=False))
        if kind == "outputs":
            return {"outputs": outputs}
        scores = tf.cast(outputs, tf.float32)
        has_nan = tf.reduce_any(tf.math.is_nan(scores), axis=-1)
        class_id = tf.argmax(scores, axis=-1, output_type=tf.int32)
        answer = {"class_id": tf.where(has_nan, -1, class_id)}
        if kind == "probabilities":
            return {"probabilities": scores, **answer}
        return {"logits": scores, "probabilities": tf.nn.softmax(scores), **answer}

    return serve


def _check_shape(inputs: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Return `inputs` if they have the shape; the graph raises `InvalidArgumentError` if not.

    A dimension that the model leaves open, but for the batch, must not be empty: there are kernels
    that abort the process.
    """
    inputs = tf.ensure_shape(inputs, shape)
    open_axes = [axis for axis, size in enumerate(shape) if size is None and axis]
    if not open_axes:
        return inputs
    sizes = tf.gather(tf.shape(inputs), open_axes)
    with tf.control_dependencies([tf.debugging.assert_positive(sizes, "inputs has no steps")]):
        return tf.identity(inputs)


def _with_nan_of(inputs: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Return `outputs` with NaN in the rows of the batch whose inputs have one."""
    if not (inputs.dtype.is_floating and outputs.dtype.is_floating):
        return outputs
    has_nan = tf.reduce_any(tf.math.is_nan(inputs), axis=list(range(1, inputs.shape.rank)))
    rows = tf.reshape(has_nan, [-1] + [1] * (outputs.shape.rank - 1))
    return tf.where(rows, tf.constant(float("nan"), outputs.dtype), outputs)
