"""What a served model answers: one checked input, named outputs."""

from collections.abc import Callable

import keras
import tensorflow as tf

from bnzoo.errors import InputError

INPUT_NAME = "inputs"


def input_spec(model: keras.Model) -> tf.TensorSpec:
    """Return the model's one input as a spec with unknown batch size.

    Raises:
        InputError: the model is not built or has several inputs.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs) != 1:
        raise InputError(
            f"model {model.name!r}: expected a built model with one input, "
            f"got {len(inputs) if inputs else 'none'}. Call it once on data, or export its parts."
        )
    return tf.TensorSpec((None, *inputs[0].shape[1:]), inputs[0].dtype, name=INPUT_NAME)


def serving_function(model: keras.Model) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the function behind `serving_default`.

    The shape is checked inside the graph. A signature's own shape is not enforced, and
    TensorFlow's kernels abort the whole process on a tensor of a rank that the graph promised
    could not come; `tf.ensure_shape` turns that into `InvalidArgumentError`.

    Returns:
        A function of one tensor. A classifier, whose output is (batch, classes), answers
        `logits` and `probabilities` float32 of that shape and `class_id` int32 of shape
        (batch,); `logits` is absent where the model ends in a softmax. Any other model answers
        `outputs`.
    """
    spec = input_spec(model)
    ends_in_softmax = _last_activation(model) is keras.activations.softmax

    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = model(tf.ensure_shape(inputs, spec.shape), training=False)
        if outputs.shape.rank != 2 or outputs.shape[-1] is None:
            return {"outputs": outputs}
        scores = tf.cast(outputs, tf.float32)
        class_id = tf.argmax(scores, axis=-1, output_type=tf.int32)
        if ends_in_softmax:
            return {"probabilities": scores, "class_id": class_id}
        return {"logits": scores, "probabilities": tf.nn.softmax(scores), "class_id": class_id}

    return serve


def _last_activation(model: keras.Model):
    return getattr(model.layers[-1], "activation", None)
