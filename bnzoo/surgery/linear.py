"""Linear layers that take up an affine function beside them.

One class for each arrangement of a kernel. All arrays are float64.
"""

import keras
import numpy as np

from bnzoo.surgery.affine import Affine, CannotMerge, named, to_float64


def channel_axis(layer: keras.layers.Layer, ndim: int) -> int:
    """Return the axis of a layer's channels, non-negative, in tensors of `ndim` dimensions."""
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return 1 if first else ndim - 1


def check_axis(affine: Affine, layer: keras.layers.Layer, ndim: int) -> None:
    """Check that an affine function is along the channels of a layer; raise `CannotMerge`."""
    axis, channels = affine.axis % ndim, channel_axis(layer, ndim)
    if axis != channels:
        raise CannotMerge(f"{named(layer)} has its channels along axis {channels}, not {axis}")


def no_shift(layer: keras.layers.Layer) -> CannotMerge:
    """Say that zeros are padded behind a shift, where they would have to be other values."""
    return CannotMerge(f"a shift cannot go through the padded borders of {named(layer)}")


class LinearWeights:
    """The weights of one dense layer or convolution, and what was merged into them.

    Its kernel has shape (..., inputs / groups, outputs).

    Args:
        layer: built, `is_linear`.
    """

    kernel_names = ("kernel",)  # the first meets the inputs, the last makes the outputs

    def __init__(self, layer: keras.layers.Layer):
        self._layer = layer
        self._kernels = [to_float64(getattr(layer, name)) for name in self.kernel_names]
        # Zero for every output while there is none.
        self._bias = to_float64(layer.bias) if layer.use_bias else np.zeros(())

    def take_outputs(self, affine: Affine) -> None:
        """Merge an affine function of this layer's outputs; only with no activation between.

        Raises:
            CannotMerge: there is one, or the layer's dtype cannot hold the new kernel.
        """
        activation = self._layer.activation
        if activation is not keras.activations.linear:
            name = getattr(activation, "__name__", type(activation).__name__)
            raise CannotMerge(f"{named(self._layer)} before it has its own activation, {name}")
        bias = (self._bias - affine.center) * affine.scale + affine.offset
        self._change(-1, self._at_outputs(affine.scale), bias)

    def take_inputs(self, affine: Affine) -> None:
        """Merge an affine function of this layer's inputs, where that is exact.

        A shift is not where borders are padded with zeros: they would have to be padded with
        other values.

        Raises:
            CannotMerge: it is not exact, or the layer's dtype cannot hold the new kernel.
        """
        if self._pads():
            raise no_shift(self._layer)
        if affine.is_far:
            raise CannotMerge(
                f"its mean is so far from zero that {named(self._layer)} would lose digits"
            )
        bias = self._bias + self._response(affine.shift)
        self._change(0, self._at_inputs(affine.scale), bias)

    def take_input_scale(self, scale: np.ndarray) -> None:
        """Merge a scale of this layer's inputs, which is exact whatever the padding.

        Raises:
            CannotMerge: the layer's dtype cannot hold the new kernel.
        """
        self._change(0, self._at_inputs(scale), self._bias)

    def config(self) -> dict:
        """Return the configuration of the layer that has these weights."""
        return {**self._layer.get_config(), "use_bias": self._bias.ndim > 0}

    def values(self) -> list[np.ndarray]:
        """Return the weights of the layer of `config`, in its order."""
        return [*self._kernels, self._bias] if self._bias.ndim else self._kernels

    def _change(self, place: int, factor: np.ndarray, bias: np.ndarray) -> None:
        """Multiply a kernel, unless the dtype that the layer computes in cannot hold it."""
        kernel = self._kernels[place] * factor
        largest = np.finfo("float16").max
        if self._layer.compute_dtype == "float16" and not np.abs(kernel).max() <= largest:
            raise CannotMerge(f"the kernel of {named(self._layer)} would be too large for float16")
        self._kernels[place], self._bias = kernel, bias

    def _pads(self) -> bool:
        padding = getattr(self._layer, "padding", "valid")
        return padding != "valid" and any(size > 1 for size in self._layer.kernel_size)

    def _response(self, shift: np.ndarray) -> np.ndarray:
        """Return what inputs of `shift`, of shape (inputs,), at every place give: (outputs,)."""
        return (_over_places(self._kernels[0]) * self._at_inputs(shift)).sum(0)

    def _at_outputs(self, values: np.ndarray) -> np.ndarray:
        """Arrange one value per output so that it meets the kernel."""
        return values

    def _at_inputs(self, values: np.ndarray) -> np.ndarray:
        """Arrange one value per input as (inputs / groups, outputs): a group sees its inputs."""
        groups, outputs = getattr(self._layer, "groups", 1), self._kernels[0].shape[-1]
        return np.repeat(values.reshape(groups, -1), outputs // groups, axis=0).T


class TransposedWeights(LinearWeights):
    """Kernel of shape (..., outputs, inputs)."""

    def _pads(self) -> bool:
        return True  # its borders see fewer inputs than its middle

    def _at_outputs(self, values: np.ndarray) -> np.ndarray:
        return values[:, np.newaxis]

    def _at_inputs(self, values: np.ndarray) -> np.ndarray:
        return values


class DepthwiseWeights(LinearWeights):
    """Kernel of shape (..., inputs, multiplier); output `i * multiplier + m` sees input i only."""

    def _response(self, shift: np.ndarray) -> np.ndarray:
        return (_over_places(self._kernels[0]) * self._at_inputs(shift)).ravel()

    def _at_outputs(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(self._kernels[0].shape[-2:])

    def _at_inputs(self, values: np.ndarray) -> np.ndarray:
        return values[:, np.newaxis]


class SeparableWeights(DepthwiseWeights):
    """A depthwise kernel, then a pointwise one of shape (..., inputs * multiplier, outputs)."""

    kernel_names = ("depthwise_kernel", "pointwise_kernel")

    def _response(self, shift: np.ndarray) -> np.ndarray:
        return super()._response(shift) @ _over_places(self._kernels[1])

    def _at_outputs(self, values: np.ndarray) -> np.ndarray:
        return values


def _over_places(kernel: np.ndarray) -> np.ndarray:
    """Sum a kernel over its places: what is left has two axes."""
    return kernel.sum(axis=tuple(range(kernel.ndim - 2)))


_layers = keras.layers
LINEAR_LAYERS = {
    _layers.Dense: LinearWeights,
    _layers.Conv1D: LinearWeights,
    _layers.Conv2D: LinearWeights,
    _layers.Conv3D: LinearWeights,
    _layers.Conv1DTranspose: TransposedWeights,
    _layers.Conv2DTranspose: TransposedWeights,
    _layers.Conv3DTranspose: TransposedWeights,
    _layers.DepthwiseConv1D: DepthwiseWeights,
    _layers.DepthwiseConv2D: DepthwiseWeights,
    _layers.SeparableConv1D: SeparableWeights,
    _layers.SeparableConv2D: SeparableWeights,
}


def is_linear(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer is one whose kernel can be changed; subclasses may compute otherwise."""
    return (
        type(layer) in LINEAR_LAYERS
        and not getattr(layer, "lora_enabled", False)
        and getattr(layer, "quantization_mode", None) is None
    )
