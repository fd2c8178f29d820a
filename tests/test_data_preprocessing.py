"""Raw images to model inputs: pure functions, eager, in graphs and in `tf.data`."""

import json

import numpy as np
import pytest
import tensorflow as tf
from data_files import numbered_image

from bnzoo.config.data import PADDING_VALUE
from bnzoo.data import preprocessing
from bnzoo.data.preprocessing import Preprocessing


def random_images(*shape):
    return np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)


def test_scale_maps_uint8_to_the_unit_interval():
    values = np.arange(256, dtype=np.uint8)
    scaled = preprocessing.scale(tf.constant(values), preprocessing.PIXEL_SCALE).numpy()
    assert scaled.dtype == np.float32
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)
    # One rounding of the factor and one of the product: at most 1 part in 2**23.
    np.testing.assert_allclose(scaled, values / 255, rtol=2**-23)


def test_scale_treats_floats_by_the_factor_as_it_treats_uint8():
    floats = tf.constant([-3.5, 700.0])
    np.testing.assert_array_equal(preprocessing.scale(floats, 1.0), [-3.5, 700.0])
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(
        preprocessing.scale(tf.constant(pixels.astype(np.float32)), preprocessing.PIXEL_SCALE),
        preprocessing.scale(tf.constant(pixels), preprocessing.PIXEL_SCALE),
    )


@pytest.mark.parametrize("encode", [tf.io.encode_png, lambda image: tf.io.encode_jpeg(image)])
@pytest.mark.parametrize("channels", [1, 3])
def test_decode_keeps_or_converts_channels(encode, channels):
    contents = encode(random_images(6, 5, channels))
    assert preprocessing.decode(contents).shape == (6, 5, channels)
    for wanted in (1, 3):
        assert preprocessing.decode(contents, wanted).shape == (6, 5, wanted)


def test_decode_is_lossless_for_png():
    image = random_images(6, 5, 3)
    np.testing.assert_array_equal(preprocessing.decode(tf.io.encode_png(image)), image)


@pytest.mark.parametrize(("channels", "kept"), [(2, 1), (4, 3)])
def test_decode_drops_transparency(channels, kept):
    image = random_images(6, 5, channels)
    decoded = preprocessing.decode(tf.io.encode_png(image))
    np.testing.assert_array_equal(decoded, image[..., :kept])


def test_decode_takes_the_first_frame_of_a_gif():
    gif = (
        b"GIF89a\x02\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
        + b"\x2c\x00\x00\x00\x00\x02\x00\x01\x00\x00\x02\x02\x44\x0a\x00" * 2
        + b"\x3b"
    )
    assert preprocessing.decode(tf.constant(gif), 1).shape == (1, 2, 1)


def test_decode_of_a_known_shape_gives_the_same():
    image = random_images(6, 5, 3)
    contents = tf.io.encode_png(image)
    np.testing.assert_array_equal(preprocessing.decode(contents, 3, (6, 5, 3)), image)


def test_gray_weights_add_up_and_gray_color_survives():
    gray = random_images(4, 6, 5, 1)
    color = preprocessing.convert_channels(tf.constant(gray), 3)
    assert color.shape == (4, 6, 5, 3)
    np.testing.assert_array_equal(preprocessing.convert_channels(color, 1), gray)


def test_resize_is_the_identity_at_its_size():
    images = random_images(4, 6, 5, 3)
    np.testing.assert_array_equal(preprocessing.resize(tf.constant(images), (6, 5)), images)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    def unknown_size(batch):
        return preprocessing.resize(batch, (6, 5))

    np.testing.assert_array_equal(unknown_size(images), images)


def test_resize_averages_when_shrinking():
    image = np.full((8, 8, 1), 100, np.uint8)
    image[::2] = 200
    small = preprocessing.resize(tf.constant(image), (2, 2))
    assert small.dtype == tf.uint8
    assert small.shape == (2, 2, 1)
    assert np.abs(small.numpy().astype(int) - 150).max() < 20  # without antialiasing: 100 or 200


def test_to_layout_reshapes():
    images = tf.reshape(tf.range(2 * 3 * 4 * 5), (2, 3, 4, 5))
    assert preprocessing.to_layout(images, "rows").shape == (2, 3, 20)
    assert preprocessing.to_layout(images, "flat").shape == (2, 60)
    assert preprocessing.to_layout(images, "image").shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(
        preprocessing.to_layout(images, "rows")[1, 2], images.numpy()[1, 2].reshape(-1)
    )


def test_pad_steps_overwrites_only_the_end():
    sequences = tf.ones((3, 4, 2))
    padded = preprocessing.pad_steps(sequences, tf.constant([4, 1, 2])).numpy()
    assert (padded[0] == 1).all()
    assert (padded[1, :1] == 1).all()
    assert (padded[1, 1:] == PADDING_VALUE).all()
    assert (padded[2, 2:] == PADDING_VALUE).all()


def test_description_survives_json():
    description = Preprocessing("rows", (8, 9), 3, preprocessing.PIXEL_SCALE)
    text = json.dumps(description.to_dict())
    assert Preprocessing.from_dict(json.loads(text)) == description
    features = Preprocessing("features", None, None, 1.0)
    assert Preprocessing.from_dict(json.loads(json.dumps(features.to_dict()))) == features


def test_to_model_inputs_resizes_converts_and_lays_out():
    images = np.stack([numbered_image(n, (9, 7, 3)) for n in range(2)])
    description = Preprocessing("flat", (6, 5), 1, preprocessing.PIXEL_SCALE)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    def graph(batch):
        return preprocessing.to_model_inputs(batch, description)

    inputs = graph(images)
    assert inputs.shape == (2, 30)
    assert inputs.dtype == tf.float32
    np.testing.assert_array_equal(
        inputs, preprocessing.to_model_inputs(tf.constant(images), description)
    )


def test_to_model_inputs_equals_the_pipeline():
    import bnzoo.data
    from bnzoo.config.data import Data
    from bnzoo.data.source import open_digits

    params = {"image_size": [12, 10], "color_mode": "rgb", "view": "rows"}
    splits = bnzoo.data.load("digits", **params)
    raw = open_digits(Data(name="digits"), 2**30).test.features[:32]
    np.testing.assert_array_equal(
        preprocessing.to_model_inputs(raw, splits.preprocessing), next(iter(splits.test))[0]
    )
