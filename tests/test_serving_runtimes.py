"""Exports under runtimes that come with TensorFlow and Keras, as the model card says."""

import keras
import numpy as np
import pytest
import serving_exports as exports
import tensorflow as tf

IMAGES = np.random.default_rng(0).random((7, *exports.SHAPE), dtype="float32")
# Other kernels add in another order: 3e-6 was measured with LiteRT on a larger network.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exports.export_classifier(tmp_path_factory.mktemp("served") / "small")


def check_answers(answers, exported):
    expected = exports.signature(exported)(inputs=IMAGES)
    assert set(answers) == set(expected)
    for name, values in expected.items():
        allowed = TOLERANCE * np.abs(values).max()
        np.testing.assert_allclose(answers[name], values, rtol=0, atol=allowed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_litert_answers_the_same(exported):
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(exported), signature_keys=["serving_default"]
    )
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    check_answers(interpreter.get_signature_runner("serving_default")(inputs=IMAGES), exported)


@pytest.mark.slow
def test_keras_reads_it_as_a_layer(exported):
    layer = keras.layers.TFSMLayer(exported, call_endpoint="serving_default")
    check_answers(layer(IMAGES), exported)


def test_the_card_says_how_to_run_it_elsewhere(exported):
    card = (exported / "MODEL_CARD.md").read_text()
    for words in ('signature_keys=["serving_default"]', "TFSMLayer", "tf2onnx.convert", "OpenVINO"):
        assert words in card
    assert "`serve_bytes` and `decode_bytes` cannot be converted for LiteRT" in card
