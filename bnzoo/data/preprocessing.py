"""From a raw image to the input of a model: pure functions, for training and serving alike.

They work eagerly, inside `tf.data` and inside an exported graph, keep no state and touch no file.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from bnzoo.config.data import PADDING_VALUE

PIXEL_SCALE = 1.0 / 255.0
"""What a uint8 pixel is multiplied with, so that images span [0, 1]."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, the weights of JPEG and of TensorFlow's decoders


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a raw image becomes the input of the model; JSON-able through `to_dict`.

    Attributes:
        layout: `"image"` (height, width, channels), `"rows"` (height, width * channels), `"flat"`
            (height * width * channels,), or `"features"`: arrays that never were images.
        image_size: (height, width) in pixels that images are resized to; `None` for features.
        channels: of the image, usually 1 or 3; `None` for features.
        scale: factor from raw values to model inputs: 1 / 255 for pixels, 1 for other values.
    """

    layout: str
    image_size: tuple[int, int] | None
    channels: int | None
    scale: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, strings and numbers, as JSON has them."""
        return {**dataclasses.asdict(self), "image_size": self.image_size and [*self.image_size]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """Undo `to_dict`; what a later version added is left aside."""
        found = {field.name: values[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**found, "image_size": found["image_size"] and (*found["image_size"],)})


def decode(
    contents: tf.Tensor,
    channels: int | None = None,
    shape: tuple[int | None, int | None, int | None] = (None, None, None),
    image_size: tuple[int, int] | None = None,
) -> tf.Tensor:
    """Decode one PNG, JPEG, BMP or GIF (its first frame); transparency is dropped.

    Args:
        contents: string tensor of shape (), the bytes of the file.
        channels: 1 or 3 to convert to; `None` keeps what the file has.
        shape: (height, width, channels) of the file as far as known: halves the time.
        image_size: (height, width) to resize to; `None` keeps what the file has.

    Returns:
        uint8 tensor of shape (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: if the bytes are no such image, or not of this shape.
    """
    image = tf.io.decode_image(contents, channels=0, expand_animations=False)
    image = tf.ensure_shape(image, shape)
    if shape[2] not in (1, 3):
        image = tf.cond(tf.shape(image)[-1] > 2, lambda: image[..., :3], lambda: image[..., :1])
    if channels is not None:
        image = convert_channels(image, channels)
    return image if image_size is None else resize(image, image_size)


def convert_channels(images: tf.Tensor, channels: int) -> tf.Tensor:
    """Convert between gray and color.

    Args:
        images: uint8 tensor of shape (..., height, width, 1 or 3), or with `channels` already.
        channels: 1 or 3.

    Returns:
        uint8 tensor of shape (..., height, width, channels).
    """
    if images.shape[-1] == channels:
        return images
    received = tf.shape(images)[-1]
    if channels == 3:
        converted = tf.repeat(images, 3 // received, axis=-1)
    else:
        weights = tf.cond(received == 3, lambda: tf.constant(_LUMA), lambda: tf.ones(1))
        gray = tf.tensordot(tf.cast(images, tf.float32), weights, axes=1)
        converted = tf.cast(tf.round(gray), tf.uint8)[..., tf.newaxis]
    return tf.ensure_shape(converted, (*images.shape[:-1], channels))


def resize(images: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Resize bilinearly, with antialiasing; images that have the size keep their values.

    Args:
        images: uint8 tensor of shape (..., height, width, channels), one image or a batch.
        image_size: (height, width) in pixels.

    Returns:
        uint8 tensor of shape (..., *image_size, channels), rounded to the nearest value.
    """
    if tuple(images.shape[-3:-1]) == tuple(image_size):
        return images
    smooth = tf.image.resize(images, image_size, method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(smooth), 0.0, 255.0), tf.uint8)


def to_shape(images: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Convert the channels of images and resize them, where that is needed.

    Args:
        images: uint8 tensor of shape (..., height, width, channels).
        shape: (height, width, channels) to bring them to.
    """
    return resize(convert_channels(images, shape[2]), shape[:2])


def scale(values: tf.Tensor, factor: float) -> tf.Tensor:
    """Return raw values, uint8 or float of any shape, as float32 times `Preprocessing.scale`."""
    return tf.cast(values, tf.float32) * factor


def to_layout(inputs: tf.Tensor, layout: str) -> tf.Tensor:
    """Present a batch of images as the model reads it.

    Args:
        inputs: tensor of shape (batch, height, width, channels), or features (batch, ...).
        layout: see `Preprocessing`.

    Returns:
        tensor of shape (batch, height, width * channels) for `"rows"`, (batch, values) for
        `"flat"`, otherwise `inputs`.
    """
    if layout == "rows":
        return tf.reshape(inputs, (-1, inputs.shape[1], inputs.shape[2:].num_elements()))
    if layout == "flat":
        return tf.reshape(inputs, (-1, inputs.shape[1:].num_elements()))
    return inputs


def pad_steps(sequences: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Overwrite the steps after the end of each sequence with `PADDING_VALUE`.

    Args:
        sequences: float32 tensor of shape (batch, steps, features).
        lengths: int tensor of shape (batch,): the number of steps that each sequence keeps.
    """
    kept = tf.sequence_mask(lengths, maxlen=tf.shape(sequences)[1])[..., tf.newaxis]
    return tf.where(kept, sequences, PADDING_VALUE)


def to_model_inputs(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Turn a batch of raw images or features into model inputs, as training saw them.

    Args:
        images: uint8 tensor of shape (batch, height, width, channels), or uint8 or float values
            of shape (batch, ...), in the range that the training data had before it was scaled.
        preprocessing: of the `Splits` that the model was trained on.

    Returns:
        float32 tensor of shape (batch, *input_shape).
    """
    if preprocessing.image_size is not None and images.dtype == tf.uint8:
        images = to_shape(images, (*preprocessing.image_size, preprocessing.channels))
    return to_layout(scale(images, preprocessing.scale), preprocessing.layout)
