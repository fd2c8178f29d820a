"""Linear layers that take up an affine function beside them."""

import keras
import numpy as np

from bnzoo.surgery.affine import Affine, to_float64
from bnzoo.surgery.kernels import DepthwiseKernel, Kernel, SeparableKernel, TransposedKernel

_layers = keras.layers
ARRANGEMENTS = {
    _layers.Dense: Kernel,
    _layers.Conv1D: Kernel,
    _layers.Conv2D: Kernel,
    _layers.Conv3D: Kernel,
    _layers.Conv1DTranspose: TransposedKernel,
    _layers.Conv2DTranspose: TransposedKernel,
    _layers.Conv3DTranspose: TransposedKernel,
    _layers.DepthwiseConv1D: DepthwiseKernel,
    _layers.DepthwiseConv2D: DepthwiseKernel,
    _layers.SeparableConv1D: SeparableKernel,
    _layers.SeparableConv2D: SeparableKernel,
}


def is_linear(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer is one whose kernel can be changed; subclasses may compute otherwise."""
    return (
        type(layer) in ARRANGEMENTS
        and not getattr(layer, "lora_enabled", False)
        and getattr(layer, "quantization_mode", None) is None
    )


def channel_axis(layer: keras.layers.Layer, ndim: int) -> int:
    """Return the axis of a layer's channels, non-negative, in tensors of `ndim` dimensions."""
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return 1 if first else ndim - 1


class LinearWeights:
    """The weights of one linear layer in float64, and what was merged into them.

    Args:
        layer: built, `is_linear`.
    """

    def __init__(self, layer: keras.layers.Layer):
        arrangement = ARRANGEMENTS[type(layer)]
        is_separable = arrangement is SeparableKernel
        names = ("depthwise_kernel", "pointwise_kernel") if is_separable else ("kernel",)
        arrays = {name: to_float64(getattr(layer, name)) for name in names}
        self._layer = layer
        self._kernel = arrangement(arrays, groups=getattr(layer, "groups", 1))
        self._bias = to_float64(layer.bias) if layer.use_bias else None

    def take_outputs(self, affine: Affine) -> bool:
        """Merge an affine function of this layer's outputs; only with no activation between.

        Returns:
            Whether it could be done: the layer's dtype may not hold the new kernel.
        """
        if self._layer.activation is not keras.activations.linear:
            return False
        return self._try(
            lambda: self._kernel.scale_outputs(affine.scale),
            lambda bias: (bias - affine.center) * affine.scale + affine.offset,
        )

    def take_inputs(self, affine: Affine) -> bool:
        """Merge an affine function of this layer's inputs, where that is exact.

        A shift is not where borders are padded with zeros: they would have to be padded with
        other values.

        Returns:
            Whether it could be done.
        """
        if self._pads() or affine.is_far:
            return False
        response = self._kernel.response(affine.shift)
        return self._try(
            lambda: self._kernel.scale_inputs(affine.scale), lambda bias: bias + response
        )

    def take_input_scale(self, scale: np.ndarray) -> bool:
        """Merge a scale of this layer's inputs, which is exact whatever the padding.

        Returns:
            Whether it could be done.
        """
        return self._try(lambda: self._kernel.scale_inputs(scale), None)

    def _pads(self) -> bool:
        if isinstance(self._kernel, TransposedKernel):
            return True
        padding = getattr(self._layer, "padding", "valid")
        return padding != "valid" and any(size > 1 for size in self._layer.kernel_size)

    def _try(self, change_kernel, change_bias) -> bool:
        before = dict(self._kernel.arrays)
        change_kernel()
        if not self._fits():
            self._kernel.arrays = before
            return False
        if change_bias is not None:
            # What is added has one value per output; zero broadcasts to it.
            self._bias = change_bias(np.zeros(()) if self._bias is None else self._bias)
        return True

    def _fits(self) -> bool:
        """Tell whether the dtype that the layer computes in holds the kernel."""
        if self._layer.compute_dtype != "float16":
            return True
        largest = float(np.finfo("float16").max)
        return all(np.abs(array).max() <= largest for array in self._kernel.arrays.values())

    def config(self) -> dict:
        """Return the configuration of the layer that has these weights."""
        return {**self._layer.get_config(), "use_bias": self._bias is not None}

    def assign_to(self, layer: keras.layers.Layer) -> None:
        """Write the weights into a built layer of `config`."""
        for name, array in self._kernel.arrays.items():
            getattr(layer, name).assign(array)
        if self._bias is not None:
            layer.bias.assign(self._bias)
