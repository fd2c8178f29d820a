"""What the decoding processes do."""

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os

import numpy as np

from bnzoo.data.preprocessing import Preprocessing
from bnzoo.quiet import begin_helper
from bnzoo.serving import image_bytes
from bnzoo.serving.server.image_files import inflates_too_far

NICENESS = 10
"""From 0 to 19: on a busy machine these processes get a tenth of what others do."""


class Undecodable(Exception):
    """An image cannot be decoded; the argument is its index."""


def new_processes(number: int) -> concurrent.futures.ProcessPoolExecutor:
    """Return so many processes; they begin with the first work."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(number, context, begin_helper)


@functools.cache
def _step_back() -> None:
    """Leave the cores to others that want them, from now on."""
    os.nice(NICENESS)


@functools.cache
def _graph(settings: Preprocessing):
    import tensorflow as tf

    @functools.partial(tf.function, input_signature=[image_bytes.INPUT_SPEC], autograph=False)
    def to_model_inputs(images: tf.Tensor) -> tf.Tensor:
        return image_bytes.to_model_inputs(images, settings)

    return to_model_inputs


def decode(settings: Preprocessing, images: list[bytes]) -> np.ndarray:
    """Return the model inputs that images make.

    Raises:
        Undecodable: with the index of the first that cannot be decoded.
    """
    import tensorflow as tf

    _step_back()
    for index, image in enumerate(images):
        if inflates_too_far(image):
            raise Undecodable(index)
    with contextlib.suppress(tf.errors.InvalidArgumentError):
        return _graph(settings)(tf.constant(images, tf.string)).numpy()
    for index, image in enumerate(images):
        try:
            _graph(settings)(tf.constant([image]))
        except tf.errors.InvalidArgumentError:
            raise Undecodable(index) from None
    raise AssertionError("together they cannot be decoded, each alone can")
