"""The parts that builders share: linear layers, normalization, activation.

Blocks are numbered from 1 through a network, whatever their kind, and name their layers by that
number: `conv_1`, `bn_1`, `relu_1`, ..., `dense_3`, `bn_3`, `relu_3`. Channels are always last,
whatever the user's Keras configuration says.
"""

from typing import Any

import keras

from bnzoo.config.models import ModelParameters
from bnzoo.layers import BatchNormalization
from bnzoo.layers.groups import fitting_groups
from bnzoo.models.initialization import initializers


def conv2d(
    x: Any,
    name: str,
    filters: int,
    kernel_size: int,
    parameters: ModelParameters,
    padding: str = "same",
    strides: int = 1,
    is_normalized: bool = False,
) -> Any:
    """Apply a square convolution, which a normalization may follow.

    Args:
        x: float tensor of shape (batch, height, width, channels).
        name: of the layer.
        filters: channels of the output.
        kernel_size: height and width of the kernel, in pixels.
        parameters: the model's.
        padding: `"same"` or `"valid"`.
        strides: pixels from one position of the kernel to the next.
        is_normalized: a normalization follows without an activation in between, whatever the
            model's `placement`.

    Returns:
        A tensor of shape (batch, new_height, new_width, filters).
    """
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        data_format="channels_last",
        name=name,
        **_hidden_arguments(parameters, kernel_size**2 * x.shape[-1], is_normalized),
    )(x)


def conv2d_block(
    x: Any,
    index: int,
    filters: int,
    kernel_size: int,
    parameters: ModelParameters,
    padding: str = "same",
    strides: int = 1,
) -> Any:
    """Apply a square convolution, then normalization and activation as placed.

    Args:
        x: float tensor of shape (batch, height, width, channels).
        index: number of the block in the network, from 1.
        filters: channels of the output.
        kernel_size: height and width of the kernel, in pixels.
        parameters: the model's.
        padding: `"same"` or `"valid"`.
        strides: pixels from one position of the kernel to the next.

    Returns:
        A tensor of shape (batch, new_height, new_width, filters).
    """
    x = conv2d(x, f"conv_{index}", filters, kernel_size, parameters, padding, strides)
    return normalize_and_activate(x, index, parameters)


def conv1d_block(x: Any, index: int, filters: int, parameters: Any, mask: Any = None) -> Any:
    """Apply a valid convolution over steps, then normalization and activation as placed.

    Args:
        x: float tensor of shape (batch, steps, features).
        index: number of the block in the network, from 1.
        filters: channels of the output.
        parameters: the model's, with a `kernel_size`.
        mask: bool tensor of shape (batch, steps - kernel_size + 1): output steps that count.

    Returns:
        A tensor of shape (batch, steps - kernel_size + 1, filters).
    """
    convolution = keras.layers.Conv1D(
        filters,
        parameters.kernel_size,
        data_format="channels_last",
        name=f"conv_{index}",
        **_hidden_arguments(parameters, fan_in=parameters.kernel_size * x.shape[-1]),
    )
    return normalize_and_activate(convolution(x), index, parameters, mask)


def dense_block(x: Any, index: int, units: int, parameters: ModelParameters) -> Any:
    """Apply a dense layer, then normalization and activation as placed.

    Args:
        x: float tensor of shape (batch, features).
        index: number of the block in the network, from 1.
        units: features of the output.
        parameters: the model's.

    Returns:
        A tensor of shape (batch, units).
    """
    dense = keras.layers.Dense(
        units, name=f"dense_{index}", **_hidden_arguments(parameters, fan_in=x.shape[-1])
    )
    return normalize_and_activate(dense(x), index, parameters)


def normalize_and_activate(
    x: Any, index: int, parameters: ModelParameters, mask: Any = None
) -> Any:
    """Put normalization before or after the activation, or leave it out.

    Args:
        x: float tensor of shape (batch, ..., channels).
        index: number of the block in the network, from 1.
        parameters: the model's `placement`, `activation`, `batch_norm` and `group_norm`.
        mask: bool tensor of shape (batch, ...): positions that count in the statistics.

    Returns:
        A tensor of the same shape.
    """
    if parameters.placement == "before":
        x = normalize(x, f"bn_{index}", parameters, mask)
    x = activate(x, index, parameters)
    if parameters.placement == "after":
        x = normalize(x, f"bn_{index}", parameters, mask)
    return x


def normalize(x: Any, name: str, parameters: ModelParameters, mask: Any = None) -> Any:
    """Apply batch or group normalization, as the model says, to x of shape (batch, ..., channels).

    Group normalization knows no mask: `conv1d`, which has one, refuses it.
    """
    if parameters.group_norm is not None:
        return keras.layers.GroupNormalization(
            fitting_groups(parameters.group_norm, x.shape),
            name=name,
            **parameters.batch_norm.model_dump(include={"epsilon", "center", "scale"}),
        )(x)
    normalization = BatchNormalization(name=name, **parameters.batch_norm.arguments())
    return normalization(x) if mask is None else normalization(x, mask=mask)


def activate(x: Any, index: int, parameters: ModelParameters) -> Any:
    """Apply the model's activation, as a layer named by it and by the number of the block."""
    if parameters.activation == "linear":
        return x
    name = f"{parameters.activation}_{index}"
    return keras.layers.Activation(parameters.activation, name=name)(x)


def flatten(x: Any) -> Any:
    """Turn each sample into one row: (batch, ...) to (batch, features)."""
    return keras.layers.Flatten(data_format="channels_last", name="flatten")(x)


def max_pool(x: Any, name: str) -> Any:
    """Halve height and width: (batch, height, width, channels) by the largest of each 2 x 2."""
    return keras.layers.MaxPooling2D(2, data_format="channels_last", name=name)(x)


def average_over_pixels(x: Any) -> Any:
    """Average each channel: (batch, height, width, channels) to (batch, channels)."""
    return keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="average")(x)


def drop(x: Any, name: str, share: float) -> Any:
    """Set a share of the values to zero in training, and scale the others up."""
    return keras.layers.Dropout(share, name=name)(x) if share else x


def logits(x: Any, parameters: ModelParameters) -> Any:
    """Apply the last dense layer, without a softmax.

    Under mixed precision it computes in the policy's variable dtype (float32), as a softmax
    cross-entropy of float16 logits loses digits and overflows.

    Args:
        x: float tensor of shape (batch, features).
        parameters: the model's `classes` and `initialization`.

    Returns:
        A tensor of shape (batch, classes).
    """
    return keras.layers.Dense(
        parameters.classes,
        dtype=keras.config.dtype_policy().variable_dtype,
        name="logits",
        **initializers(parameters, fan_in=x.shape[-1]),
    )(x)


def _hidden_arguments(
    parameters: ModelParameters, fan_in: int, is_normalized: bool = False
) -> dict[str, Any]:
    """Return bias and initializers of a linear layer that a normalization may follow."""
    has_activation = parameters.activation != "linear"
    norm_follows = parameters.placement == "before" or (
        parameters.placement == "after" and not has_activation
    )
    # The mean that batch normalization subtracts contains the bias: it would change nothing.
    return {
        "use_bias": parameters.use_bias or not (norm_follows or is_normalized),
        **initializers(parameters, fan_in, parameters.kernel_scale),
    }
