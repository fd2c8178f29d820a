"""The networks of the zoo, one builder each.

A builder takes the resolved parameters of one model and returns an uncompiled `keras.Model`.
"""

import keras

from bnzoo.config.models import Conv1D, Dense, LeNet, OneConv, ThreeConv
from bnzoo.models.blocks import conv1d_block, conv2d_block, dense_block, flatten, logits, max_pool
from bnzoo.models.sequences import MaskedAveragePooling, PadSteps, ValidSteps


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
        x = conv2d_block(x, index, filters, "same", parameters)
    x = flatten(max_pool(x, name="pool"))
    return keras.Model(inputs, logits(x, parameters), name=parameters.name)


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
        x = conv2d_block(x, index, filters, "valid", parameters)
        x = max_pool(x, name=f"pool_{index}")
    x = flatten(x)
    for index, units in enumerate(parameters.units, start=len(parameters.filters) + 1):
        x = dense_block(x, index, units, parameters)
    return keras.Model(inputs, logits(x, parameters), name=parameters.name)


def build_conv1d(parameters: Conv1D) -> keras.Model:
    """Build the bare example when `classes` is `None`, else the classifier.

    Args:
        parameters: resolved.

    Returns:
        A model from (batch, steps, features) to (batch, steps - kernel_size + 1, filters), or to
        (batch, classes).

    Source:
        The Conv1D example: input (128, 256), 64 filters over 3 steps, BN; output (126, 64).
    """
    inputs = keras.Input(parameters.input_shape, name="inputs")
    if parameters.classes is None:
        outputs = conv1d_block(inputs, 1, parameters.filters[0], parameters)
    else:
        outputs = _classify(inputs, parameters)
    return keras.Model(inputs, outputs, name=parameters.name)


def _classify(x: keras.KerasTensor, parameters: Conv1D) -> keras.KerasTensor:
    """Classify sequences of shape (batch, steps, features), of which padded steps do not count."""
    kernel_size, mask_value = parameters.kernel_size, parameters.mask_value
    if x.shape[1] is None:
        x = PadSteps(kernel_size, mask_value, name="pad")(x)
    mask = ValidSteps(kernel_size, mask_value, name="valid_steps")(x)
    x = conv1d_block(x, 1, parameters.filters[0], parameters, mask)
    x = MaskedAveragePooling(name="pool")(x, mask=mask)
    return logits(x, parameters)
