"""LeNet."""

import keras

from bnzoo.config.models.lenet import LeNet
from bnzoo.models.blocks import conv2d_block, dense_block, flatten, logits, max_pool


def build_lenet(parameters: LeNet) -> keras.Model:
    """Build LeNet with normalization at both convolutions and both hidden dense layers.

    Args:
        parameters: resolved.

    Returns:
        A model from (batch, height, width, channels) to (batch, classes).

    Source:
        "Batch Normalization (BN) and Its Effects on the Learning Process of Convolutional Neural
        Networks". Its code creates the normalizations and never calls them; here they are used, at
        the dense layers too, as its text says.
    """
    inputs = keras.Input(parameters.input_shape, name="inputs")
    x = inputs
    for index, filters in enumerate(parameters.filters, start=1):
        x = conv2d_block(x, index, filters, parameters.kernel_size, parameters, padding="valid")
        x = max_pool(x, name=f"pool_{index}")
    x = flatten(x)
    for index, units in enumerate(parameters.units, start=len(parameters.filters) + 1):
        x = dense_block(x, index, units, parameters)
    return keras.Model(inputs, logits(x, parameters), name=parameters.name)
