"""Where a forward and a backward pass become one differentiable function."""

from collections.abc import Callable
from typing import NamedTuple

from keras import ops


class Way(NamedTuple):
    """A forward pass, and the backward pass written for it.

    Attributes:
        forward: `forward(inputs, **given)` -> ((outputs, mean, variance, count), saved), where
            given are those of the tensors gamma, beta and weights that there are.
        backward: `backward(inputs, saved, upstream, **given)` -> the gradients of inputs, gamma and
            beta, where upstream holds those of the four outputs.
        blank: `blank(inputs)` -> something of the structure and dtypes of saved, at no cost.
    """

    forward: Callable
    backward: Callable
    blank: Callable | None = None


def differentiable(way: Way, inputs, **optional):
    """Call a forward pass so that its gradient is the backward pass written for it.

    Args:
        way: both passes.
        inputs: float tensor of shape (batch, ..., channels, ...).
        **optional: the tensors gamma, beta and weights, or None: neither pass hears of those.
            Weights are zeros and ones, and have no gradient.

    Returns:
        outputs, mean, variance and count.
    """
    given = {name: tensor for name, tensor in optional.items() if tensor is not None}

    @ops.custom_gradient
    def joined(inputs, *tensors):
        arguments = dict(zip(given, tensors, strict=True))
        results, saved = way.forward(inputs, **arguments)

        def gradient(*upstream):
            # TensorFlow hands over one argument per output, JAX one tuple.
            upstream = upstream[0] if len(upstream) == 1 else upstream
            d_inputs, d_gamma, d_beta = way.backward(inputs, saved, upstream, **arguments)
            gradients = {"gamma": d_gamma, "beta": d_beta}
            if "weights" in given:
                gradients["weights"] = ops.zeros_like(arguments["weights"])
            return d_inputs, *(gradients[name] for name in given)

        return tuple(results), gradient

    return joined(inputs, *given.values())
