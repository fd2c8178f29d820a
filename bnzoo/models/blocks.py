"""The parts that builders share: a linear layer and how it starts, normalization, activation.

Blocks are numbered from 1 through a network, whatever their kind, and name their layers by that
number: `conv_1`, `bn_1`, `relu_1`, ..., `dense_3`, `bn_3`, `relu_3`. Channels are always last,
whatever the user's Keras configuration says.
"""

import math
from typing import Any

import keras

from bnzoo.config.models import ModelParameters
from bnzoo.layers import BatchNormalization


def conv2d_block(x: Any, index: int, filters: int, padding: str, parameters: Any) -> Any:
    """Apply a square convolution, then normalization and activation as placed.

    Args:
        x: float tensor of shape (batch, height, width, channels).
        index: number of the block in the network, from 1.
        filters: channels of the output.
        padding: `"same"` or `"valid"`.
        parameters: the model's, with a `kernel_size`.

    Returns:
        A tensor of shape (batch, new_height, new_width, filters).
    """
    convolution = keras.layers.Conv2D(
        filters,
        parameters.kernel_size,
        padding=padding,
        data_format="channels_last",
        name=f"conv_{index}",
        **_hidden_arguments(parameters, fan_in=parameters.kernel_size**2 * x.shape[-1]),
    )
    return normalize_and_activate(convolution(x), index, parameters)


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
    """Put batch normalization before or after the activation, or leave it out.

    Args:
        x: float tensor of shape (batch, ..., channels).
        index: number of the block in the network, from 1.
        parameters: the model's `placement`, `activation` and `batch_norm`.
        mask: bool tensor of shape (batch, ...): positions that count in the statistics.

    Returns:
        A tensor of the same shape.
    """
    if parameters.placement == "before":
        x = _normalize(x, index, parameters, mask)
    if parameters.activation != "linear":
        name = f"{parameters.activation}_{index}"
        x = keras.layers.Activation(parameters.activation, name=name)(x)
    if parameters.placement == "after":
        x = _normalize(x, index, parameters, mask)
    return x


def flatten(x: Any) -> Any:
    """Turn each sample into one row: (batch, ...) to (batch, features)."""
    return keras.layers.Flatten(data_format="channels_last", name="flatten")(x)


def max_pool(x: Any, name: str) -> Any:
    """Halve height and width: (batch, height, width, channels) by the largest of each 2 x 2."""
    return keras.layers.MaxPooling2D(2, data_format="channels_last", name=name)(x)


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
        **linear_initializers(parameters.initialization, fan_in=x.shape[-1]),
    )(x)


def _normalize(x: Any, index: int, parameters: ModelParameters, mask: Any) -> Any:
    normalization = BatchNormalization(name=f"bn_{index}", **parameters.batch_norm.arguments())
    return normalization(x) if mask is None else normalization(x, mask=mask)


def _hidden_arguments(parameters: ModelParameters, fan_in: int) -> dict[str, Any]:
    """Return bias and initializers of a linear layer that a normalization may follow."""
    has_activation = parameters.activation != "linear"
    norm_follows = parameters.placement == "before" or (
        parameters.placement == "after" and not has_activation
    )
    # The mean that normalization subtracts contains the bias, which therefore changes nothing.
    return {
        "use_bias": parameters.use_bias or not norm_follows,
        **linear_initializers(parameters.initialization, fan_in),
    }


def linear_initializers(initialization: str, fan_in: int) -> dict[str, Any]:
    """Return the initializer arguments of one linear layer.

    Each call makes new initializers, as a shared one would give two layers the same numbers. Their
    seeds come from `keras.utils.set_random_seed`.

    Args:
        initialization: `"keras"` (glorot-uniform kernels, zero biases) or `"torch"`.
        fan_in: inputs of one output: channels, times the positions of the kernel.

    Returns:
        Keyword arguments of a Keras `Dense` or `Conv` layer.

    Source:
        `torch.nn.Linear` and `torch.nn.Conv2d`: kaiming-uniform with a = sqrt(5), whose bound
        sqrt(6 / ((1 + a**2) * fan_in)) is 1 / sqrt(fan_in); biases are uniform with that bound.
    """
    if initialization == "keras":
        return {}
    bound = 1 / math.sqrt(fan_in)
    return {
        # Its uniform bound is sqrt(3 * scale / fan_in), the same 1 / sqrt(fan_in).
        "kernel_initializer": keras.initializers.VarianceScaling(
            scale=1 / 3, mode="fan_in", distribution="uniform"
        ),
        "bias_initializer": keras.initializers.RandomUniform(-bound, bound),
    }
