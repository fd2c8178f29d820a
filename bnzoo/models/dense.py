"""Fully connected networks."""

import keras

from bnzoo.config.models.dense import Dense
from bnzoo.models.blocks import dense_block, flatten, logits


def build_dense(parameters: Dense) -> keras.Model:
    """Build as many dense blocks as `units` has entries.

    Args:
        parameters: resolved, of `dense`, `sigmoid_mlp` or `f1`; samples of any rank,
            flattened when they are not rows already.

    Returns:
        A model from (batch, *input_shape) to (batch, classes).
    """
    inputs = keras.Input(parameters.input_shape, name="inputs")
    x = inputs if len(parameters.input_shape) == 1 else flatten(inputs)
    for index, units in enumerate(parameters.units, start=1):
        x = dense_block(x, index, units, parameters)
    return keras.Model(inputs, logits(x, parameters), name=parameters.name)
