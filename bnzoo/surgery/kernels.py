"""How the kernels of linear layers take a scale or a shift of their inputs or outputs.

One class for each arrangement of a kernel. All arrays are float64; methods replace, never change
them.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Kernel:
    """Kernel of shape (..., inputs / groups, outputs): dense layers and convolutions.

    Attributes:
        arrays: the layer's kernels by attribute name: the first meets the inputs, the last makes
            the outputs; they are the same but for separable convolutions.
        groups: of a convolution, 1 otherwise.
    """

    arrays: dict[str, np.ndarray]
    groups: int = 1

    def scale_outputs(self, scale: np.ndarray) -> None:
        """Multiply each output by its scale, an array of shape (outputs,)."""
        name = list(self.arrays)[-1]
        self.arrays[name] = self.arrays[name] * self._at_outputs(scale)

    def scale_inputs(self, scale: np.ndarray) -> None:
        """Expect inputs that still have to be multiplied by a scale of shape (inputs,)."""
        name = next(iter(self.arrays))
        self.arrays[name] = self.arrays[name] * self._at_inputs(scale)

    def response(self, shift: np.ndarray) -> np.ndarray:
        """Return what inputs of `shift`, of shape (inputs,), at every place give: (outputs,)."""
        return (_over_places(self.arrays["kernel"]) * self._at_inputs(shift)).sum(0)

    def _at_outputs(self, values: np.ndarray) -> np.ndarray:
        """Arrange one value per output so that it meets the kernel."""
        return values

    def _at_inputs(self, values: np.ndarray) -> np.ndarray:
        """Arrange one value per input as (inputs / groups, outputs): a group sees its inputs."""
        outputs = self.arrays["kernel"].shape[-1]
        per_group = values.reshape(self.groups, -1)
        return np.repeat(per_group, outputs // self.groups, axis=0).T


class TransposedKernel(Kernel):
    """Kernel of shape (..., outputs, inputs); its borders see fewer inputs than its middle."""

    def _at_outputs(self, values: np.ndarray) -> np.ndarray:
        return values[:, np.newaxis]

    def _at_inputs(self, values: np.ndarray) -> np.ndarray:
        return values


class DepthwiseKernel(Kernel):
    """Kernel of shape (..., inputs, multiplier); output `i * multiplier + m` sees input i only."""

    def response(self, shift: np.ndarray) -> np.ndarray:
        """As `Kernel.response`."""
        kernel = next(iter(self.arrays.values()))
        return (_over_places(kernel) * self._at_inputs(shift)).ravel()

    def _at_outputs(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(self.arrays["kernel"].shape[-2:])

    def _at_inputs(self, values: np.ndarray) -> np.ndarray:
        return values[:, np.newaxis]


class SeparableKernel(DepthwiseKernel):
    """A depthwise kernel, then a pointwise one of shape (..., inputs * multiplier, outputs)."""

    def response(self, shift: np.ndarray) -> np.ndarray:
        """As `Kernel.response`."""
        return super().response(shift) @ _over_places(self.arrays["pointwise_kernel"])

    def _at_outputs(self, values: np.ndarray) -> np.ndarray:
        return values


def _over_places(kernel: np.ndarray) -> np.ndarray:
    """Sum a kernel over its places: what is left has two axes."""
    return kernel.sum(axis=tuple(range(kernel.ndim - 2)))
