"""What every source of data delivers, and how raw images are brought to one shape."""

import dataclasses

import numpy as np
import tensorflow as tf

from bnzoo.config.data import Data
from bnzoo.data import preprocessing
from bnzoo.data.examples import ArrayExamples, Examples, Prepare, to_cpu
from bnzoo.errors import InputError

CHUNK = 1024  # images prepared at a time: large enough to be quick, small enough for memory

_CHANNELS = {"grayscale": 1, "rgb": 3}


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A data set before it is split and batched.

    Attributes:
        train: examples to learn from.
        test: examples to test with.
        class_names: one name for each label, in order.
        example_shape: shape of one example as `Examples.batches` presents it.
        is_image: whether that is (height, width, channels) of an image.
        scale: factor from its values to model inputs.
        skipped: files left out because they cannot be decoded.
    """

    train: Examples
    test: Examples
    class_names: tuple[str, ...]
    example_shape: tuple[int, ...]
    is_image: bool = True
    scale: float = preprocessing.PIXEL_SCALE
    skipped: tuple[str, ...] = ()


def image_shape(
    shape: tuple[int | None, int | None, int | None], settings: Data
) -> tuple[int, int, int]:
    """Return the (height, width, channels) that raw images of this shape are brought to.

    Args:
        shape: (height, width, channels) of the raw images, `None` where they differ.
        settings: gives `image_size` and `color_mode`.

    Raises:
        InputError: if sizes differ and no `image_size` says what to do, or if channels cannot be
            converted.
    """
    if settings.image_size is None and None in shape[:2]:
        raise InputError(
            f"The images of {settings.name} differ in size; all must be equal. "
            "Set data.image_size, for example [64, 64], to resize them."
        )
    size = settings.image_size or shape[:2]
    return (*size, wanted_channels(shape[2], settings))


def wanted_channels(channels: int | None, settings: Data) -> int:
    """Return the channels that `color_mode` asks for, given those of the raw images."""
    if settings.color_mode == "auto":
        if channels is not None:
            return channels
        raise InputError(
            f"The images of {settings.name} differ in their channels; all must be equal. "
            "Set data.color_mode: grayscale or rgb to convert them."
        )
    if channels not in (1, 3, None):
        raise InputError(
            f"The images of {settings.name} have {channels} channels; color_mode: "
            f"{settings.color_mode} needs 1 or 3. Leave color_mode at auto to keep them as they "
            "are."
        )
    return _CHANNELS[settings.color_mode]


def array_examples(
    images: np.ndarray, labels: np.ndarray, shape: tuple[int, int, int], memory_limit: int
) -> ArrayExamples:
    """Hold images in memory, resized and converted beforehand unless that would take too much.

    Args:
        images: uint8 array of shape (n, height, width, channels).
        labels: int array of shape (n,).
        shape: (height, width, channels) to bring them to.
        memory_limit: bytes; images that would take more are prepared batch by batch.
    """
    labels = labels.astype(np.int32)
    if images.shape[1:] == shape:
        return ArrayExamples(to_cpu(images), labels)
    prepare = _bring_to(shape)
    if len(images) * int(np.prod(shape)) > memory_limit:
        return ArrayExamples(to_cpu(images), labels, prepare)
    prepared = np.empty((len(images), *shape), np.uint8)
    for start in range(0, len(images), CHUNK):
        prepared[start : start + CHUNK] = prepare(tf.constant(images[start : start + CHUNK]))
    return ArrayExamples(to_cpu(prepared), labels)


def _bring_to(shape: tuple[int, int, int]) -> Prepare:
    def prepare(images: tf.Tensor) -> tf.Tensor:
        if images.shape[-1] != shape[2]:
            images = preprocessing.convert_channels(images, shape[2])
        return preprocessing.resize(images, shape[:2])

    return prepare
