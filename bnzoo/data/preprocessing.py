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
        scale: factor from raw values to model inputs: 1 / 255 for uint8, 1 for float features.
    """

    layout: str
    image_size: tuple[int, int] | None
    channels: int | None
    scale: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, strings and numbers, as JSON has them."""
        size = None if self.image_size is None else list(self.image_size)
        return {**dataclasses.asdict(self), "image_size": size}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """Undo `to_dict`."""
        size = values["image_size"]
        return cls(**{**values, "image_size": None if size is None else tuple(size)})


def decode(
    contents: tf.Tensor,
    channels: int | None = None,
    shape: tuple[int | None, int | None, int | None] = (None, None, None),
) -> tf.Tensor:
    """Decode one PNG, JPEG, BMP or GIF (its first frame); transparency is dropped.

    Args:
        contents: string tensor of shape (), the bytes of the file.
        channels: 1 or 3 to convert to; `None` keeps what the file has.
        shape: (height, width, channels) of the file as far as known: halves the time.

    Returns:
        uint8 tensor of shape (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: if the bytes are no such image, or not of this shape.
    """
    image = tf.io.decode_image(contents, channels=0, expand_animations=False)
    image = tf.ensure_shape(image, shape)
    if shape[2] not in (1, 3):
        image = tf.cond(tf.shape(image)[-1] > 2, lambda: image[..., :3], lambda: image[..., :1])
    return image if channels is None else convert_channels(image, channels)


def convert_channels(images: tf.Tensor, channels: int) -> tf.Tensor:
    """Convert between gray and colour.

    Args:
        images: uint8 tensor of shape (..., height, width, 1 or 3).
        channels: 1 or 3.

    Returns:
        uint8 tensor of shape (..., height, width, channels).
    """
    if images.shape[-1] is not None:
        return _to_channels(images, int(images.shape[-1]), channels)
    return tf.cond(
        tf.shape(images)[-1] == 3,
        lambda: _to_channels(tf.ensure_shape(images, images.shape[:-1] + [3]), 3, channels),
        lambda: _to_channels(tf.ensure_shape(images, images.shape[:-1] + [1]), 1, channels),
    )


def _to_channels(images: tf.Tensor, received: int, channels: int) -> tf.Tensor:
    if received == channels:
        return images
    if channels == 3:
        return tf.repeat(images, 3, axis=-1)
    gray = tf.tensordot(tf.cast(images, tf.float32), tf.constant(_LUMA), axes=1)
    return tf.cast(tf.round(gray), tf.uint8)[..., tf.newaxis]


def resize(images: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Resize bilinearly, with antialiasing; images that have the size are returned unchanged.

    Args:
        images: uint8 tensor of shape (..., height, width, channels), one image or a batch.
        image_size: (height, width) in pixels.

    Returns:
        uint8 tensor of shape (..., *image_size, channels), rounded to the nearest value.
    """
    if tuple(images.shape[-3:-1]) == tuple(image_size):
        return images

    def resized() -> tf.Tensor:
        smooth = tf.image.resize(images, image_size, method="bilinear", antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(smooth), 0.0, 255.0), tf.uint8)

    same = tf.reduce_all(tf.shape(images)[-3:-1] == tf.constant(image_size))
    result = tf.cond(same, lambda: images, resized)
    return tf.ensure_shape(result, images.shape[:-3] + list(image_size) + images.shape[-1:])


def scale(images: tf.Tensor) -> tf.Tensor:
    """Map uint8 values to float32 in [0, 1]; float tensors are returned as float32.

    Args:
        images: uint8 or float tensor of any shape.
    """
    values = tf.cast(images, tf.float32)
    return values * PIXEL_SCALE if images.dtype == tf.uint8 else values


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
        steps = inputs.shape[1]
        return tf.reshape(inputs, (-1, steps, inputs.shape[2:].num_elements()))
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
        images: uint8 tensor of shape (batch, height, width, channels), or uint8 or float
            features of shape (batch, ...).
        preprocessing: of the `Splits` that the model was trained on.

    Returns:
        float32 tensor of shape (batch, *input_shape).
    """
    if preprocessing.image_size is not None and images.dtype == tf.uint8:
        if preprocessing.channels in (1, 3):
            images = convert_channels(images, preprocessing.channels)
        images = resize(images, preprocessing.image_size)
    return to_layout(scale(images), preprocessing.layout)
