"""Residual networks.

Convolutions are numbered as the layers of the papers are: `conv_1` is the stem, and the logits are
the last layer, so that layer 55 of ResNet-110 is `conv_55`. `bn_<i>` and `relu_<i>` belong to
`conv_<i>`. The sum at the end of block k is `add_<k>`; a convolution on its shortcut is
`conv_shortcut_<k>`.

Where batch normalization stands, by `placement`:

- `before`: as published. Without `preactivation` a block is conv, BN, ReLU, conv, BN, add, ReLU;
  with it BN, ReLU, conv, BN, ReLU, conv, add, where only a stem and the end differ: the stem is
  normalized and activated, which stands for the first block's own, and so is the last sum.
- `after`: each normalization moves behind the next activation. The last of a block therefore
  normalizes the activated sum, shortcut included: conv, ReLU, BN, conv, add, ReLU, BN; with
  `preactivation` ReLU, BN, conv, ReLU, BN, conv, add. There are as many as with `before`.
- `none`: the same without.

A convolution on a shortcut has no activation: its normalization follows it, wherever the others
stand, and with `preactivation` it has none, as published.
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from bnzoo.config.models.resnet import ResNet
from bnzoo.models.blocks import (
    activate,
    average_over_pixels,
    conv2d,
    logits,
    normalize,
    normalize_and_activate,
)


def build_resnet(parameters: ResNet) -> keras.Model:
    """Build stem, stages of blocks, average over all pixels and logits.

    Args:
        parameters: resolved.

    Returns:
        A model from (batch, height, width, channels) to (batch, classes).
    """
    inputs = keras.Input(parameters.input_shape, name="inputs")
    x = skipped = _stem(inputs, parameters)
    index = 2
    for block, (filters, strides) in enumerate(_blocks(parameters), start=1):
        layers = _layers(filters, strides, parameters)
        x, skipped = _block(x, skipped, block, index, layers, parameters)
        index += len(layers)
    return keras.Model(inputs, logits(average_over_pixels(x), parameters), name=parameters.name)


def _blocks(parameters: ResNet) -> Iterator[tuple[int, int]]:
    """Yield channels and strides of each block; all stages but the first begin with strides."""
    if parameters.is_for_imagenet:
        first, stages = 64, (2, 2, 2, 2) if parameters.depth == 18 else (3, 4, 6, 3)
    else:
        first, stages = 16, 3 * ((parameters.depth - 2) // 6,)
    for stage, blocks in enumerate(stages):
        filters = first * 2**stage
        yield from ((filters, 2 if stage and not block else 1) for block in range(blocks))


def _layers(filters: int, strides: int, parameters: ResNet) -> list[tuple[int, int, int]]:
    """Return channels, kernel size and strides of each convolution of a block."""
    filters = _scaled(filters, parameters)
    if parameters.depth == 50:
        return [(filters, 1, strides), (filters, 3, 1), (4 * filters, 1, 1)]
    return [(filters, 3, strides), (filters, 3, 1)]


def _scaled(filters: int, parameters: ResNet) -> int:
    return max(1, round(filters * parameters.width))


def _stem(x: Any, parameters: ResNet) -> Any:
    is_full = parameters.has_full_stem
    filters = _scaled(64 if parameters.is_for_imagenet else 16, parameters)
    x = _convolve(x, 1, filters, 7 if is_full else 3, 2 if is_full else 1, parameters)
    x = normalize_and_activate(x, 1, parameters)
    if is_full:
        x = _pad(x, 1, "pad_pool")
        x = keras.layers.MaxPooling2D(3, 2, data_format="channels_last", name="pool")(x)
    return x


def _block(
    x: Any, skipped: Any, block: int, index: int, layers: list, parameters: ResNet
) -> tuple[Any, Any]:
    """Apply a block of which the activation in front belongs to the one before.

    Args:
        x: activated tensor of shape (batch, height, width, channels).
        skipped: what an unchanged shortcut passes on, of the same shape: x, or the sum that became
            x with `preactivation`.
        block: number of the block in the network, from 1.
        index: number of its first convolution.
        layers: channels, kernel size and strides of its convolutions.
        parameters: the model's.

    Returns:
        The same two for the next block.
    """
    shortcut = _shortcut(x, skipped, block, layers, parameters)
    last = index + len(layers) - 1
    for number, (filters, kernel_size, strides) in enumerate(layers, start=index):
        x = _convolve(x, number, filters, kernel_size, strides, parameters)
        if number < last:
            x = normalize_and_activate(x, number, parameters)
    is_normalized_first = parameters.placement == "before" and not parameters.preactivation
    if is_normalized_first:
        x = normalize(x, f"bn_{last}", parameters)
    total = keras.layers.Add(name=f"add_{block}")([shortcut, x])
    finish = activate if is_normalized_first else normalize_and_activate
    x = finish(total, last, parameters)
    return x, total if parameters.preactivation else x


def _shortcut(x: Any, skipped: Any, block: int, layers: list, parameters: ResNet) -> Any:
    """Bring what a block skips to the shape of its sum: (batch, height, width, channels)."""
    filters, strides = layers[-1][0], layers[0][2]
    if strides == 1 and filters == skipped.shape[-1]:
        return skipped
    if not parameters.is_for_imagenet:
        return ZeroPaddedShortcut(filters, strides, name=f"shortcut_{block}")(skipped)
    is_normalized = parameters.placement != "none" and not parameters.preactivation
    x = conv2d(
        x,
        f"conv_shortcut_{block}",
        filters,
        1,
        parameters,
        strides=strides,
        is_normalized=is_normalized,
    )
    return normalize(x, f"bn_shortcut_{block}", parameters) if is_normalized else x


def _convolve(
    x: Any, index: int, filters: int, kernel_size: int, strides: int, parameters: ResNet
) -> Any:
    """Apply a convolution whose windows have the pixels that a shortcut keeps at their centers."""
    padding = "same"
    if strides > 1 and kernel_size > 1:  # "same" would put them beside these pixels
        x, padding = _pad(x, kernel_size // 2, f"pad_{index}"), "valid"
    return conv2d(x, f"conv_{index}", filters, kernel_size, parameters, padding, strides)


def _pad(x: Any, pixels: int, name: str) -> Any:
    return keras.layers.ZeroPadding2D(pixels, data_format="channels_last", name=name)(x)


@keras.saving.register_keras_serializable(package="bnzoo")
class ZeroPaddedShortcut(keras.layers.Layer):
    """Take every second pixel, and add channels of zeros: a shortcut without parameters.

    Args:
        filters: channels of the output, at least those of the input.
        strides: pixels from one that is taken to the next.

    Source:
        He et al. 2016, section 3.3, shortcut A.
    """

    def __init__(self, filters: int, strides: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides

    def call(self, inputs):
        """Return shape (batch, height / strides, width / strides, filters), sizes rounded up."""
        kept = inputs[:, :: self.strides, :: self.strides, :]
        return ops.pad(kept, [(0, 0), (0, 0), (0, 0), (0, self.filters - inputs.shape[-1])])

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}
