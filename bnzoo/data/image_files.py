"""Decoding the image files of a folder, with the name of the file in every complaint."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from bnzoo.config.data import Data
from bnzoo.data import preprocessing
from bnzoo.data.source import wanted_channels
from bnzoo.errors import InputError


class ImageReader:
    """Reads image files into one shape, that of the first readable one unless the settings say.

    Attributes:
        shape: (height, width, channels) of every image that was read.
        skipped: paths that could not be decoded, when the settings let them be skipped.
    """

    def __init__(self, settings: Data, splits: list[list[str]]):
        """Find the shape from the first file that can be read.

        Args:
            settings: gives `image_size`, `color_mode` and `skip_unreadable`.
            splits: the paths that `read` will be called with.
        """
        self._settings = settings
        self.skipped: list[str] = []
        self._model_file, self.shape = self._first_shape([p for paths in splits for p in paths])
        self.skipped.clear()  # `read` meets the same files again

    def read(self, paths: list[str], keep: bool) -> tuple[np.ndarray | None, np.ndarray]:
        """Decode and check every file.

        Args:
            paths: of the files.
            keep: whether to keep the pixels.

        Returns:
            uint8 array of shape (readable files, *shape), or `None` unless they are kept; and a
            bool array of shape (len(paths),): which files could be decoded.

        Raises:
            InputError: on a file that cannot be decoded, or that has another size or another
                number of channels than the first one.
        """
        images = np.empty((len(paths), *self.shape), np.uint8) if keep else None
        readable = np.zeros(len(paths), bool)
        for index, image in self._decoded(paths):
            self._check_shape(paths[index], image.shape)
            readable[index] = True
            if images is not None:
                images[index] = image
        return (images if images is None or readable.all() else images[readable]), readable

    def _first_shape(self, paths: list[str]) -> tuple[str, tuple[int, int, int]]:
        for index, image in self._decoded(paths):
            return paths[index], (*image.shape[:2], wanted_channels(image.shape[2], self._settings))
        raise InputError(
            f"None of the {len(paths)} images can be decoded, the first is {paths[0]}; expected "
            "PNG, JPEG, BMP or GIF. Check the files."
        )

    def _decoded(self, paths: list[str]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the index and pixels of every readable file; the others are refused or noted."""
        dataset = tf.data.Dataset.from_tensor_slices(paths)
        iterator = iter(dataset.map(self._decode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(16))
        for index, path in enumerate(paths):
            try:
                image = next(iterator)
            except tf.errors.OpError as error:  # the iterator goes on with the next file
                self._refuse_or_skip(path, error)
            else:
                yield index, image.numpy()

    def _decode(self, path: tf.Tensor) -> tf.Tensor:
        gray_or_rgb = {"grayscale": 1, "rgb": 3}.get(self._settings.color_mode)
        image = preprocessing.decode(tf.io.read_file(path), gray_or_rgb)
        size = self._settings.image_size
        return image if size is None else preprocessing.resize(image, size)

    def _refuse_or_skip(self, path: str, error: tf.errors.OpError) -> None:
        if not self._settings.skip_unreadable:
            reason = error.message.splitlines()[0][:200]
            raise InputError(
                f"The image {path} cannot be read ({reason}); expected PNG, JPEG, BMP or GIF. "
                "Replace the file, or set data.skip_unreadable: true to leave such files out."
            ) from error
        self.skipped.append(path)

    def _check_shape(self, path: str, shape: tuple[int, ...]) -> None:
        if shape[:2] != self.shape[:2]:
            raise InputError(
                f"The image {path} has {shape[0]} x {shape[1]} pixels (height x width); expected "
                f"{self.shape[0]} x {self.shape[1]} as in {self._model_file}. "
                f"Set data.image_size, for example {list(self.shape[:2])}, to resize all of them."
            )
        if shape[2] != self.shape[2]:
            raise InputError(
                f"The image {path} has {shape[2]} channels; expected {self.shape[2]} as in "
                f"{self._model_file}. Set data.color_mode: grayscale or rgb to convert all of them."
            )
