"""How the kernels of linear layers take a scale or a shift of their inputs or outputs.

One class for each arrangement of a kernel. All arrays are float64; functions return new ones.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Kernel:
    """Kernel of shape (..., inputs / groups, outputs): dense layers and convolutions.

    Attributes:
        arrays: the layer's kernels by attribute name.
        groups: of a convolution, 1 otherwise.
    """

    arrays: dict[str, np.ndarray]
    groups: int = 1

    def scale_outputs(self, scale: np.ndarray) -> None:
        """Multiply each output by its scale, an array of shape (outputs,)."""
        self.arrays["kernel"] = self.arrays["kernel"] * scale

    def scale_inputs(self, scale: np.ndarray) -> None:
        """Expect inputs that still have to be multiplied by a scale of shape (inputs,)."""
        self.arrays["kernel"] = self.arrays["kernel"] * self._for_outputs(scale)

    def response(self, shift: np.ndarray) -> np.ndarray:
        """Return what inputs of `shift`, of shape (inputs,), at every place give: (outputs,)."""
        return (_over_places(self.arrays["kernel"]) * self._for_outputs(shift)).sum(0)

    def _for_outputs(self, values: np.ndarray) -> np.ndarray:
        """Arrange one value per input as (inputs / groups, outputs): a group sees its inputs."""
        outputs = self.arrays["kernel"].shape[-1]
        per_group = values.reshape(self.groups, -1)
        return np.repeat(per_group, outputs // self.groups, axis=0).T


class TransposedKernel(Kernel):
    """Kernel of shape (..., outputs, inputs); its borders see fewer inputs than its middle."""

    def scale_outputs(self, scale: np.ndarray) -> None:
        """As `Kernel.scale_outputs`."""
        self.arrays["kernel"] = self.arrays["kernel"] * scale[:, np.newaxis]

    def scale_inputs(self, scale: np.ndarray) -> None:
        """As `Kernel.scale_inputs`."""
        self.arrays["kernel"] = self.arrays["kernel"] * scale


class DepthwiseKernel(Kernel):
    """Kernel of shape (..., inputs, multiplier); output `i * multiplier + m` sees input i only."""

    def scale_outputs(self, scale: np.ndarray) -> None:
        """As `Kernel.scale_outputs`."""
        kernel = self.arrays["kernel"]
        self.arrays["kernel"] = kernel * scale.reshape(kernel.shape[-2:])

    def scale_inputs(self, scale: np.ndarray) -> None:
        """As `Kernel.scale_inputs`."""
        self.arrays["kernel"] = self.arrays["kernel"] * scale[:, np.newaxis]

    def response(self, shift: np.ndarray) -> np.ndarray:
        """As `Kernel.response`."""
        return (_over_places(self.arrays["kernel"]) * shift[:, np.newaxis]).ravel()


class SeparableKernel(Kernel):
    """A depthwise kernel, then a pointwise one of shape (..., inputs * multiplier, outputs)."""

    def scale_outputs(self, scale: np.ndarray) -> None:
        """As `Kernel.scale_outputs`."""
        self.arrays["pointwise_kernel"] = self.arrays["pointwise_kernel"] * scale

    def scale_inputs(self, scale: np.ndarray) -> None:
        """As `Kernel.scale_inputs`."""
        kernel = self.arrays["depthwise_kernel"]
        self.arrays["depthwise_kernel"] = kernel * scale[:, np.newaxis]

    def response(self, shift: np.ndarray) -> np.ndarray:
        """As `Kernel.response`."""
        depthwise = DepthwiseKernel({"kernel": self.arrays["depthwise_kernel"]})
        return depthwise.response(shift) @ _over_places(self.arrays["pointwise_kernel"])


def _over_places(kernel: np.ndarray) -> np.ndarray:
    """Sum a kernel over its places: what is left has two axes."""
    return kernel.sum(axis=tuple(range(kernel.ndim - 2)))
