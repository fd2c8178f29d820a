"""Dense layers on flattened samples."""

import keras

from bnzoo.config.models import Dense
from bnzoo.models.blocks import dense_block, flatten, logits


def build_dense(parameters: Dense) -> keras.Model:
    """Build dense layers: 784-64-10 as published.

    Args:
        parameters: resolved; samples of any rank, flattened when they are not rows already.

    Returns:
        A model from (batch, *input_shape) to (batch, classes).

    Source:
        The MNIST example 784 - 64 - BN - ReLU - 10; the softmax is left to the loss.
    """
    inputs = keras.Input(parameters.input_shape, name="inputs")
    x = inputs if len(parameters.input_shape) == 1 else flatten(inputs)
    for index, units in enumerate(parameters.units, start=1):
        x = dense_block(x, index, units, parameters)
    return keras.Model(inputs, logits(x, parameters), name=parameters.name)
