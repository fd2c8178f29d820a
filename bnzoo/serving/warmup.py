"""Requests that TensorFlow Serving sends to itself when it loads a version, before any client's."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from bnzoo.data.preprocessing import Preprocessing
from bnzoo.serving import image_bytes
from bnzoo.serving.layout import WARMUP_FILE
from bnzoo.serving.saved_model import DECODE_BYTES, SERVE_BYTES, SERVING_DEFAULT

BATCH_SIZES = (1, 32)  # what TensorFlow prepares depends on the shapes that it meets


def write_warmup_requests(
    folder: Path,
    name: str,
    signatures: list[str],
    examples: np.ndarray,
    preprocessing: Preprocessing | None,
) -> None:
    """Write `assets.extra/tf_serving_warmup_requests`: a TFRecord file of `PredictionLog`.

    Args:
        folder: of the SavedModel.
        name: the model's, as clients will call it.
        signatures: names of those that it has.
        examples: model inputs of shape (n, *input_shape), at least one.
        preprocessing: of the images behind them, where it has `serve_bytes`.
    """
    requests = []
    for size in BATCH_SIZES:
        rows = np.arange(size) % len(examples)
        requests.append((SERVING_DEFAULT, "inputs", examples[rows]))
        if SERVE_BYTES in signatures:
            image = np.zeros((*preprocessing.image_size, preprocessing.channels), "uint8")
            encoded = np.full(size, tf.io.encode_png(image).numpy(), object)
            requests.append((SERVE_BYTES, image_bytes.INPUT_NAME, encoded))
            requests.append((DECODE_BYTES, image_bytes.INPUT_NAME, encoded))
    file = folder / WARMUP_FILE
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, input_name, values in requests:
            writer.write(_record(name, signature, input_name, values))


def _record(name: str, signature: str, input_name: str, values: np.ndarray) -> bytes:
    # Imported here: importing it prints TensorFlow's start-up messages if TensorFlow did not yet.
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    request.inputs[input_name].CopyFrom(tf.make_tensor_proto(values))
    log = prediction_log_pb2.PredictLog(request=request)
    return prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()
