"""VGG: stages of 3x3 convolutions."""

import itertools

import keras

from bnzoo.config.models.vgg import VGG
from bnzoo.models.blocks import (
    average_over_pixels,
    conv2d_block,
    dense_block,
    drop,
    logits,
    max_pool,
)


def build_vgg(parameters: VGG) -> keras.Model:
    """Build the stages, a max-pool after each, and dense layers on the average over all pixels.

    Args:
        parameters: resolved.

    Returns:
        A model from (batch, height, width, channels) to (batch, classes).
    """
    inputs = keras.Input(parameters.input_shape, name="inputs")
    x, index = inputs, itertools.count(1)
    for stage, channels in enumerate(parameters.filters, start=1):
        for filters in channels:
            x = conv2d_block(x, next(index), filters, 3, parameters)
        x = max_pool(x, name=f"pool_{stage}")
    x = average_over_pixels(x)
    if not parameters.units:
        x = drop(x, "dropout", parameters.dropout)
    for number, units in enumerate(parameters.units, start=1):
        x = dense_block(x, next(index), units, parameters)
        x = drop(x, f"dropout_{number}", parameters.dropout)
    return keras.Model(inputs, logits(x, parameters), name=parameters.name)
