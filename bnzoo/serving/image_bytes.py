"""Encoded images as requests: decoded, resized and scaled inside the graph, as in training.

Here each image of a request is bounded and decoded; `resize` and `scale` are those of training, in
`bnzoo/data/preprocessing.py`.
"""

import tensorflow as tf

from bnzoo.data import preprocessing
from bnzoo.data.preprocessing import Preprocessing

INPUT_NAME = "image_bytes"
INPUT_SPEC = tf.TensorSpec((None,), tf.string, name=INPUT_NAME)

MAX_PIXELS = 2**24
"""Largest height x width of an image, 16.8 million: a photograph of 4000 x 3000 fits.

A few hundred bytes can announce 20,000 x 20,000 pixels, and a decoder believes them.
"""

PIXELS_PER_BYTE = 512
"""Of a JPEG, at most: a block of 8 x 8 pixels takes a Huffman code, so at least one bit."""

INFLATED = 1032
"""Bytes that deflate makes of one, at most: a PNG's pixels come from no fewer."""

PARALLEL = 2
"""Images decoded at a time: one of the largest takes about 0.3 GB while it is converted."""

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def takes_images(settings: Preprocessing | None) -> bool:
    """Tell whether encoded images can be turned into model inputs of this preprocessing."""
    return (
        settings is not None
        and settings.image_size is not None
        and settings.channels in (1, 3)
        and settings.scale == preprocessing.PIXEL_SCALE
    )


def to_model_inputs(contents: tf.Tensor, settings: Preprocessing) -> tf.Tensor:
    """Turn encoded images into model inputs.

    Args:
        contents: string tensor of shape (batch,), each the bytes of a PNG or JPEG file.
        settings: of the data that the model was trained on; `takes_images`.

    Returns:
        float32 tensor of shape (batch, *input_shape).

    Raises:
        tf.errors.InvalidArgumentError: in the graph, when one of them is no such image, is cut
            short or announces more than `MAX_PIXELS`, or more than so few bytes can hold: that is
            found before it is decoded.
    """
    shape = (*settings.image_size, settings.channels)

    def decode(one: tf.Tensor) -> tf.Tensor:
        image = preprocessing.decode(_checked(one), settings.channels)
        return preprocessing.resize(image, settings.image_size)

    images = tf.map_fn(
        decode,
        tf.ensure_shape(contents, (None,)),
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        parallel_iterations=PARALLEL,
    )
    return preprocessing.to_model_inputs(images, settings)


def _checked(contents: tf.Tensor) -> tf.Tensor:
    """Return the bytes if they begin as a PNG or JPEG of a size that can be decoded."""
    # The length first: `tf.strings.substr` refuses to begin behind the end.
    padded = tf.strings.join([contents, tf.constant(b"\0" * 32)])
    is_png = tf.strings.substr(padded, 0, len(_PNG)) == _PNG
    is_jpeg = tf.strings.substr(padded, 0, len(_JPEG)) == _JPEG
    known = tf.debugging.Assert(
        is_png | is_jpeg, ["an image could not be decoded: expected the bytes of a PNG or JPEG"]
    )
    with tf.control_dependencies([known]):
        pixels, least = tf.cond(is_png, lambda: _png_size(padded), lambda: _jpeg_size(contents))
    fits = tf.debugging.Assert(
        pixels <= MAX_PIXELS, [f"an image has more than {MAX_PIXELS} pixels:", pixels]
    )
    whole = tf.debugging.Assert(
        least <= tf.cast(tf.strings.length(contents), tf.int64),
        ["an image is cut short: its pixels take at least so many bytes:", least],
    )
    with tf.control_dependencies([fits, whole]):
        return tf.identity(contents)


def _png_size(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the pixels that a PNG announces, int64 of shape (), and the least bytes they take."""
    header = tf.strings.substr(contents, 16, 8)  # width and height, behind "IHDR"
    sides = tf.bitcast(tf.io.decode_raw(header, tf.int32, little_endian=False), tf.uint32)
    # Capped, as the product of two numbers of 32 bits can exceed 63.
    pixels = tf.reduce_prod(tf.minimum(tf.cast(sides, tf.int64), MAX_PIXELS + 1))
    behind = tf.io.decode_raw(tf.strings.substr(contents, 24, 2), tf.uint8)
    depth, kind = tf.unstack(tf.cast(behind, tf.int32), 2)
    # Values a pixel, by the kind of color: gray, color, palette, gray and color with transparency.
    values = tf.gather([1, 1, 3, 1, 2, 1, 4], tf.minimum(kind, 6))
    bits = tf.cast(depth * values, tf.int64)
    return pixels, pixels * bits // (8 * INFLATED)


def _jpeg_size(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    shape = tf.io.extract_jpeg_shape(contents, output_type=tf.int64)
    pixels = tf.reduce_prod(tf.minimum(shape[:2], MAX_PIXELS + 1))
    return pixels, pixels // PIXELS_PER_BYTE
