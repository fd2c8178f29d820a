"""How the linear layers of a model start: as in Keras, or as in PyTorch."""

import math
from typing import Any

import keras


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
