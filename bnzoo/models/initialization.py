"""How linear layers start."""

import math
from typing import Any

import keras

from bnzoo.config.models import ModelParameters

# `VarianceScaling` of each initialization: variance times fan, which fan, distribution.
_SCALING = {
    "keras": (1, "fan_avg", "uniform"),  # glorot-uniform
    # Its uniform bound is sqrt(3 * scale / fan_in): 1 / sqrt(fan_in), as PyTorch's.
    "torch": (1 / 3, "fan_in", "uniform"),
    "he": (2, "fan_in", "truncated_normal"),
}
NORMAL_STDDEV = 0.1


def initializers(parameters: ModelParameters, fan_in: int, scale: float = 1.0) -> dict[str, Any]:
    """Return the initializer arguments of one linear layer.

    Each call makes new initializers, as a shared one would give two layers the same numbers. Their
    seeds come from `keras.utils.set_random_seed`.

    Args:
        parameters: the model's `initialization`.
        fan_in: inputs of one output: channels, times the positions of the kernel.
        scale: factor on the kernel.

    Returns:
        Keyword arguments of a Keras `Dense` or `Conv` layer.

    Source:
        `torch.nn.Linear` and `torch.nn.Conv2d`: kaiming-uniform with a = sqrt(5), whose bound
        sqrt(6 / ((1 + a**2) * fan_in)) is 1 / sqrt(fan_in); biases are uniform with that bound.
        He et al. 2015 for `he`.
    """
    initialization = parameters.initialization
    if initialization == "normal":
        return {"kernel_initializer": keras.initializers.RandomNormal(stddev=NORMAL_STDDEV * scale)}
    variance, mode, distribution = _SCALING[initialization]
    found = {
        "kernel_initializer": keras.initializers.VarianceScaling(
            variance * scale**2, mode, distribution
        )
    }
    if initialization == "torch":
        bound = 1 / math.sqrt(fan_in)
        found["bias_initializer"] = keras.initializers.RandomUniform(-bound, bound)
    return found
