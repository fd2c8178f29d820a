"""A convolution over the steps of sequences, bare or in a classifier."""

import keras

from bnzoo.config.models.conv1d import Conv1D
from bnzoo.models.blocks import conv1d_block, logits
from bnzoo.models.sequences import MaskedAveragePooling, PadSteps, ValidSteps


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
