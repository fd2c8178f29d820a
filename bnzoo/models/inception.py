"""The Inception of the batch normalization paper."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from bnzoo.config.models.inception import Inception
from bnzoo.models.blocks import average_over_pixels, conv2d_block, drop, logits


class Row(NamedTuple):
    """One row of the paper's table: the channels of each convolution, and the kind of pooling.

    Without a 1x1 convolution a block has strides of 2 and passes on what it pools.
    """

    one: int
    three_reduce: int
    three: int
    double_reduce: int
    double: int
    pooling: type[keras.layers.Layer]
    projection: int


_MAXIMUM, _AVERAGE = keras.layers.MaxPooling2D, keras.layers.AveragePooling2D
ROWS = {
    "3a": Row(64, 64, 64, 64, 96, _AVERAGE, 32),
    "3b": Row(64, 64, 96, 64, 96, _AVERAGE, 64),
    "3c": Row(0, 128, 160, 64, 96, _MAXIMUM, 0),
    "4a": Row(224, 64, 96, 96, 128, _AVERAGE, 128),
    "4b": Row(192, 96, 128, 96, 128, _AVERAGE, 128),
    "4c": Row(160, 128, 160, 128, 160, _AVERAGE, 128),
    "4d": Row(96, 128, 192, 160, 192, _AVERAGE, 128),
    "4e": Row(0, 128, 192, 192, 256, _MAXIMUM, 0),
    "5a": Row(352, 192, 320, 160, 224, _AVERAGE, 128),
    "5b": Row(352, 192, 320, 192, 224, _MAXIMUM, 128),
}


def build_inception(parameters: Inception) -> keras.Model:
    """Build stem, blocks, average over all pixels and logits.

    The convolutions are numbered through the network, branch after branch; what a block passes on
    is named after its row, such as `block_3a`.

    Args:
        parameters: resolved.

    Returns:
        A model from (batch, height, width, channels) to (batch, classes).
    """
    inputs = keras.Input(parameters.input_shape, name="inputs")
    index = itertools.count(1)
    x = _stem(inputs, index, parameters)
    for name in parameters.blocks:
        x = _block(x, name, index, parameters)
    x = drop(average_over_pixels(x), "dropout", parameters.dropout)
    return keras.Model(inputs, logits(x, parameters), name=parameters.name)


def _stem(x: Any, index: Iterator[int], parameters: Inception) -> Any:
    """Shorten height and width 8 times; as a small stem not at all, and with a smaller kernel."""
    is_full, (first, second) = parameters.has_full_stem, parameters.filters
    kernel_size, strides = (7, 2) if is_full else (3, 1)
    x = conv2d_block(x, next(index), first, kernel_size, parameters, strides=strides)
    if is_full:
        x = _pool(_MAXIMUM, x, "pool_1", strides=2)
    x = conv2d_block(x, next(index), first, 1, parameters)
    x = conv2d_block(x, next(index), second, 3, parameters)
    return _pool(_MAXIMUM, x, "pool_2", strides=2) if is_full else x


def _block(x: Any, name: str, index: Iterator[int], parameters: Inception) -> Any:
    """Apply one row of the table: its branches side by side, their channels joined."""
    row = ROWS[name]
    strides = 1 if row.one else 2

    def convolve(x: Any, channels: int, kernel_size: int, strides: int = 1) -> Any:
        filters = max(1, round(channels * parameters.width))
        return conv2d_block(x, next(index), filters, kernel_size, parameters, strides=strides)

    branches = [convolve(x, row.one, 1)] if row.one else []
    branches.append(convolve(convolve(x, row.three_reduce, 1), row.three, 3, strides))
    double = convolve(convolve(x, row.double_reduce, 1), row.double, 3)
    branches.append(convolve(double, row.double, 3, strides))
    pooled = _pool(row.pooling, x, f"pool_{name}", strides)
    branches.append(convolve(pooled, row.projection, 1) if row.projection else pooled)
    return keras.layers.Concatenate(name=f"block_{name}")(branches)


def _pool(pooling: type[keras.layers.Layer], x: Any, name: str, strides: int) -> Any:
    """Pool windows of 3 x 3."""
    layer = pooling(3, strides, padding="same", data_format="channels_last", name=name)
    return layer(x)
