"""What an export consists of: a graph for each signature, and the files beside it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import keras
import numpy as np
import tensorflow as tf

from bnzoo.data.preprocessing import Preprocessing
from bnzoo.errors import InputError, first_sentence
from bnzoo.serving import image_bytes
from bnzoo.serving.layout import METADATA_FILE, MODEL_CARD_FILE, WARMUP_FILE
from bnzoo.serving.signature import input_spec, serving_function
from bnzoo.surgery.copying import with_sublayers

SERVING_DEFAULT, SERVE_BYTES, DECODE_BYTES = "serving_default", "serve_bytes", "decode_bytes"

WARMUP_BATCH_SIZES = (1, 32)  # what TensorFlow prepares depends on the shapes that it meets


def write_saved_model(
    model: keras.Model,
    folder: Path,
    kind: str,
    preprocessing: Preprocessing | None,
    class_names: Sequence[str] | None,
) -> dict[str, Any]:
    """Write a SavedModel.

    Args:
        model: what to serve.
        folder: to write into.
        kind: of the model's output (`signature.output_kind`).
        preprocessing: of the images that the model was trained on; without it encoded images
            cannot be served.
        class_names: one for each class, in order, if they are known.

    Returns:
        Its signatures by name, JSON-able: of each its `inputs` and `outputs`, by name, with `dtype`
        and `shape` (None: any size). There is `serving_default`; and where encoded images can be
        served `serve_bytes`, and `decode_bytes`, which only decodes: its output is `inputs`.
    """
    serve, spec = serving_function(model, kind), input_spec(model)
    functions = {SERVING_DEFAULT: (serve, spec)}
    if image_bytes.takes_images(preprocessing):

        def decode_bytes(contents: tf.Tensor) -> dict[str, tf.Tensor]:
            inputs = image_bytes.to_model_inputs(contents, preprocessing)
            return {"inputs": tf.ensure_shape(inputs, spec.shape)}

        def serve_bytes(contents: tf.Tensor) -> dict[str, tf.Tensor]:
            answer = serve(decode_bytes(contents)["inputs"])
            if class_names and "class_id" in answer:
                names = tf.constant(["", *class_names])  # "" is that of -1
                answer["class_name"] = tf.gather(names, answer["class_id"] + 1)
            return answer

        functions[SERVE_BYTES] = serve_bytes, image_bytes.INPUT_SPEC
        functions[DECODE_BYTES] = decode_bytes, image_bytes.INPUT_SPEC
    return _save(model, functions, folder)


def _save(
    model: keras.Model, functions: dict[str, tuple[Callable, tf.TensorSpec]], folder: Path
) -> dict[str, Any]:
    signatures = {
        name: tf.function(function, autograph=False).get_concrete_function(spec)
        for name, (function, spec) in functions.items()
    }
    module = tf.Module()
    # Only what a graph reads: the model itself would bring in whatever else its layers hold.
    used = {id(variable): variable for one in signatures.values() for variable in one.variables}
    module.model_variables = list(used.values())
    module.model_tables = _tables(model, signatures)
    try:
        tf.saved_model.save(module, str(folder), signatures=signatures)
    except (AssertionError, NotImplementedError, TypeError, ValueError) as error:
        raise InputError(
            f"model {model.name!r}: expected one that a SavedModel can hold; TensorFlow says: "
            f"{first_sentence(error)}. Keep what its layers use in variables, or in lookup tables "
            "that are attributes of a layer."
        ) from error
    return {
        name: {
            "inputs": _describe({spec.name: spec}),
            "outputs": _describe(signatures[name].structured_outputs),
        }
        for name, (_, spec) in functions.items()
    }


def _tables(model: keras.Model, signatures: dict[str, Callable]) -> list[Any]:
    """Return the lookup tables, attributes of layers, that the signatures read."""
    read = {id(captured) for one in signatures.values() for captured in one.captured_inputs}
    held = (value for layer in with_sublayers(model) for value in vars(layer).values())
    return [value for value in held if id(getattr(value, "resource_handle", None)) in read]


def _describe(tensors: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"dtype": tensor.dtype.name, "shape": tensor.shape.as_list()}
        for name, tensor in tensors.items()
    }


def write_warmup_requests(
    folder: Path,
    name: str,
    signatures: dict[str, Any],
    examples: np.ndarray,
    preprocessing: Preprocessing | None,
) -> None:
    """Write requests that TensorFlow Serving sends to itself when it loads a version.

    `assets.extra/tf_serving_warmup_requests` is a TFRecord file of `PredictionLog`.

    Args:
        folder: of the SavedModel.
        name: the model's, as clients will call it.
        signatures: what `write_saved_model` returned.
        examples: model inputs of shape (n, *input_shape), at least one.
        preprocessing: of the images behind them, where it has `serve_bytes`.
    """
    file = folder / WARMUP_FILE
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for size in WARMUP_BATCH_SIZES:
            for signature in signatures:
                if signature == SERVING_DEFAULT:
                    inputs = {"inputs": examples[np.arange(size) % len(examples)]}
                else:
                    image = np.zeros((*preprocessing.image_size, preprocessing.channels), "uint8")
                    encoded = np.full(size, tf.io.encode_png(image).numpy(), object)
                    inputs = {image_bytes.INPUT_NAME: encoded}
                writer.write(_warmup_record(name, signature, inputs))


def _warmup_record(name: str, signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    # Imported here: importing it prints TensorFlow's start-up messages if TensorFlow did not yet.
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, values in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(values))
    log = prediction_log_pb2.PredictLog(request=request)
    return prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()


def write_metadata(export: Path, name: str, metadata: dict[str, Any]) -> None:
    """Write `bnzoo.json`, for programs, and `MODEL_CARD.md`, which says the same to a person.

    Args:
        export: the folder of the SavedModel.
        name: the model's, as it is served.
        metadata: JSON-able.
    """
    (export / METADATA_FILE).write_text(json.dumps(metadata, indent=2) + "\n")
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("bnzoo.serving", ""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    card = templates.get_template("model_card.md.j2").render(name=name, **metadata)
    (export / MODEL_CARD_FILE).write_text(card)


def read_metadata(export: Path) -> dict[str, Any]:
    """Return the content of an export's `bnzoo.json`; an empty mapping if it has none.

    Raises:
        InputError: it is damaged.
    """
    file = export / METADATA_FILE
    try:
        return json.loads(file.read_text()) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file}: expected the metadata of an export, got: {error}. Export the model again."
        ) from None


def load_saved_model(folder: Path) -> Any:
    """Load an export.

    Raises:
        InputError: TensorFlow cannot load it, or it has no `serving_default`.
    """
    try:
        loaded = tf.saved_model.load(str(folder))
        loaded.signatures[SERVING_DEFAULT]
    except (OSError, ValueError, LookupError, tf.errors.OpError) as error:
        raise InputError(
            f"{folder}: expected a SavedModel that TensorFlow can load, got: "
            f"{str(error).splitlines()[0]} Export it again, or remove it."
        ) from error
    return loaded
