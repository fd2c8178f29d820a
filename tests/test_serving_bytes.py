"""Encoded images as requests: the preprocessing of training, inside the graph."""

import io
import time
import zlib

import numpy as np
import pytest
import serving_exports as exports
import tensorflow as tf
from PIL import Image

from bnzoo.data import preprocessing
from bnzoo.data.preprocessing import Preprocessing
from bnzoo.errors import InputError
from bnzoo.serving import image_bytes


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exports.export_classifier(tmp_path_factory.mktemp("served") / "small")


@pytest.fixture(scope="module")
def serve(exported):
    return exports.signature(exported, "serve_bytes")


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, "uint8").squeeze()).save(file, kind)
    return file.getvalue()


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, "uint8")


def test_images_of_the_models_size_answer_as_their_pixels_do(exported, serve):
    images = pixels(5, 8, 8, 1)
    by_bytes = serve(image_bytes=tf.constant([encoded(image) for image in images]))
    by_pixels = exports.signature(exported)(inputs=images.astype("float32") / 255)
    for name in ("logits", "probabilities", "class_id"):
        np.testing.assert_allclose(by_bytes[name], by_pixels[name], rtol=1e-5, atol=1e-6)
    names = [exports.CLASSES[index].encode() for index in by_pixels["class_id"].numpy()]
    assert list(by_bytes["class_name"].numpy()) == names


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [(8, 8), (31, 17), (9, 20, 3), (5, 5, 4)])
def test_other_sizes_and_channels_are_brought_to_the_models_as_in_training(
    exported, serve, kind, shape
):
    if shape[2:] == (4,) and kind == "JPEG":
        pytest.skip("JPEG has no transparency")
    data = encoded(pixels(*shape), kind)
    # What training does to a file of a folder, step by step.
    image = preprocessing.resize(preprocessing.decode(data, 1), exports.SHAPE[:2])
    inputs = preprocessing.to_model_inputs(image[tf.newaxis], exports.PREPROCESSING)
    expected = exports.signature(exported)(inputs=inputs)["logits"]
    answer = serve(image_bytes=tf.constant([data]))["logits"]
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)


def test_images_of_several_sizes_share_a_batch_of_any_size(serve):
    data = [encoded(pixels(size, 2 * size, seed=size)) for size in range(4, 11)]
    together = serve(image_bytes=tf.constant(data))["logits"].numpy()
    for row, one in zip(together, data, strict=True):
        alone = serve(image_bytes=tf.constant([one]))["logits"].numpy()[0]
        np.testing.assert_allclose(row, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layout", "channels", "shape"),
    [("rows", 1, (8, 8)), ("rows", 3, (8, 24)), ("flat", 1, (64,)), ("image", 3, (8, 8, 3))],
)
def test_every_layout_of_images_is_made_in_the_graph(
    layout, channels, shape, tmp_path, monkeypatch
):
    import keras

    exports.compare_in_this_process(monkeypatch)
    stack = [keras.layers.Flatten(), keras.layers.Dense(2, name="logits")]
    model = keras.Sequential([keras.Input(shape), *stack])
    settings = Preprocessing(layout, (8, 8), channels, 1 / 255)
    folder = exports.bnzoo.export_saved_model(model, tmp_path / "m", preprocessing=settings)
    raw = pixels(3, 8, 8, channels)
    expected = model(preprocessing.to_model_inputs(tf.constant(raw), settings))
    data = tf.constant([encoded(image) for image in raw])
    answer = exports.signature(folder, "serve_bytes")(image_bytes=data)["logits"]
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        None,
        Preprocessing("features", None, None, 1.0),
        Preprocessing("image", (8, 8), 2, 1 / 255),
        Preprocessing("image", (8, 8), 1, 1.0),
    ],
)
def test_models_whose_inputs_were_no_images_take_no_images(settings):
    assert not image_bytes.takes_images(settings)


def test_a_preprocessing_that_makes_other_inputs_is_refused(tmp_path):
    settings = Preprocessing("image", (9, 8), 1, 1 / 255)
    with pytest.raises(InputError, match=r"inputs of shape \(8, 8, 1\), got one that .*\(9, 8, 1"):
        exports.export_classifier(tmp_path / "m", preprocessing=settings)
    with pytest.raises(InputError, match=r"one for each of the 10 outputs .* got 2"):
        exports.export_classifier(tmp_path / "m", class_names=["a", "b"])


def test_decode_bytes_is_the_first_half(exported):
    image = pixels(8, 8)
    inputs = exports.signature(exported, "decode_bytes")(image_bytes=[encoded(image)])["inputs"]
    np.testing.assert_allclose(inputs[0, ..., 0], image / np.float32(255), rtol=1e-6)


# --- images that announce more than they hold ----------------------------------------------------


def solid(mode, kind, side=4096, **options):
    file = io.BytesIO()
    Image.new(mode, (side, side), 128 if mode == "L" else (130, 20, 90)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"optimize": True}),
        ("JPEG", {"optimize": True, "progressive": True}),
        ("PNG", {"compress_level": 9}),
    ],
    ids=["baseline", "progressive", "PNG"],
)
def test_the_emptiest_real_images_are_decoded(mode, kind, options, exported):
    """Solid color in as few bytes as an encoder makes of it."""
    decode = exports.signature(exported, "decode_bytes")
    image = solid(mode, kind, **options)
    gray = 128 if mode == "L" else 0.299 * 130 + 0.587 * 20 + 0.114 * 90
    inputs = decode(image_bytes=tf.constant([image]))["inputs"]
    # JPEG rounds the three channels before and after.
    np.testing.assert_allclose(inputs * 255, np.full(inputs.shape, gray), atol=2)


def claiming(image, side, at):
    """Change height and width, two bytes each, of a JPEG."""
    return image[:at] + side.to_bytes(2) * 2 + image[at + 4 :]


def test_a_small_jpeg_that_announces_a_large_one_is_refused_before_it_is_decoded(exported):
    """780 bytes that claim 4096 x 4096 took 0.1 to 0.35 s, each."""
    real = solid("RGB", "JPEG", side=16)
    start = real.index(b"\xff\xc0") + 5
    image = claiming(real, 4096, start)
    assert len(image) < 800
    decode = exports.signature(exported, "decode_bytes")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"cut short.*bytes:\] \[32768\]"):
        decode(image_bytes=tf.constant([image]))
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(image_bytes=tf.constant([image]))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.02


def test_a_small_png_that_announces_a_large_one_is_refused_before_it_is_decoded(exported):
    real = solid("RGB", "PNG", side=16)
    image = real[:16] + (4096).to_bytes(4) * 2 + real[24:29]
    image += zlib.crc32(image[12:]).to_bytes(4) + real[33:]
    decode = exports.signature(exported, "decode_bytes")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"cut short"):
        decode(image_bytes=tf.constant([image]))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.98])
def test_an_image_that_is_cut_short_is_refused(kind, kept, exported):
    image = encoded(pixels(60, 60), kind)
    decode = exports.signature(exported, "decode_bytes")
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(image_bytes=tf.constant([image[: int(kept * len(image))]]))
