"""The SavedModel itself: one graph for each signature, and no variable that they do not use."""

from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from bnzoo.data.preprocessing import Preprocessing
from bnzoo.serving import image_bytes
from bnzoo.serving.signature import input_spec, name_classes, serving_function

SERVING_DEFAULT, SERVE_BYTES, DECODE_BYTES = "serving_default", "serve_bytes", "decode_bytes"


def write_saved_model(
    model: keras.Model,
    folder: Path,
    kind: str,
    preprocessing: Preprocessing | None,
    class_names: Sequence[str] | None,
) -> list[str]:
    """Write a SavedModel.

    Args:
        model: what to serve.
        folder: to write into.
        kind: of the model's output (`signature.output_kind`).
        preprocessing: of the images that the model was trained on; without it encoded images
            cannot be served.
        class_names: one for each class, in order, if they are known.

    Returns:
        The names of the signatures: `serving_default`; and where encoded images can be served
        `serve_bytes` and `decode_bytes`, its first half, which answers the model's `inputs`.
    """
    serve = serving_function(model, kind)
    spec = input_spec(model)
    functions = {SERVING_DEFAULT: (serve, spec)}
    if image_bytes.takes_images(preprocessing):

        def decode_bytes(contents: tf.Tensor) -> dict[str, tf.Tensor]:
            inputs = image_bytes.to_model_inputs(contents, preprocessing)
            return {"inputs": tf.ensure_shape(inputs, spec.shape)}

        def serve_bytes(contents: tf.Tensor) -> dict[str, tf.Tensor]:
            answer = serve(decode_bytes(contents)["inputs"])
            has_names = class_names and "class_id" in answer
            return name_classes(answer, class_names) if has_names else answer

        functions[SERVE_BYTES] = serve_bytes, image_bytes.INPUT_SPEC
        functions[DECODE_BYTES] = decode_bytes, image_bytes.INPUT_SPEC
    _save(functions, folder)
    return list(functions)


def _save(functions: dict[str, tuple], folder: Path) -> None:
    signatures = {
        name: tf.function(function, autograph=False).get_concrete_function(spec)
        for name, (function, spec) in functions.items()
    }
    module = tf.Module()
    # Only what a graph reads: the model itself would bring in whatever else its layers hold.
    used = {id(variable): variable for one in signatures.values() for variable in one.variables}
    module.model_variables = list(used.values())
    tf.saved_model.save(module, str(folder), signatures=signatures)
