"""One or three small convolutions."""

import keras

from bnzoo.config.models.small_conv import OneConv, ThreeConv
from bnzoo.models.blocks import conv2d_block, flatten, logits, max_pool


def build_small_conv(parameters: OneConv | ThreeConv) -> keras.Model:
    """Build as many convolution blocks as `filters` has entries, with one pooling at the end.

    Args:
        parameters: resolved, of `three_conv` or `one_conv`.

    Returns:
        A model from (batch, height, width, channels) to (batch, classes).

    Source:
        "Exploring the Superhero Role of 2D Batch Normalization in Deep Learning Architectures" and
        its notebook; its figure 8 follows two weights of `conv_3`.
    """
    inputs = keras.Input(parameters.input_shape, name="inputs")
    x = inputs
    for index, filters in enumerate(parameters.filters, start=1):
        x = conv2d_block(x, index, filters, parameters.kernel_size, parameters)
    x = flatten(max_pool(x, name="pool"))
    return keras.Model(inputs, logits(x, parameters), name=parameters.name)
