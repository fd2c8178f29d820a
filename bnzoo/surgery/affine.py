"""What batch normalization is in inference: one affine function a channel, kept in float64."""

import dataclasses

import keras
import numpy as np

import bnzoo.layers

BATCH_NORMS = (keras.layers.BatchNormalization, bnzoo.layers.BatchNormalization)

FAR = 30.0
"""From how many standard deviations on a mean counts as far from zero.

There `x * scale + (beta - mean * scale)` subtracts numbers that much larger than their difference,
and costs as much precision: 30 makes of float32's 6e-8 an error of 2e-6.
"""


class CannotMerge(Exception):
    """Why an affine function cannot be merged into a layer: half a sentence, to print as it is."""


def named(layer: keras.Operation) -> str:
    """Name a layer with its class: `'conv1' (Conv2D)`."""
    return f"{layer.name!r} ({type(layer).__name__})"


def is_batch_norm(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer is batch normalization itself, not a subclass that may do more."""
    return type(layer) in BATCH_NORMS


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """`(x - center) * scale + offset` for each channel; all arrays float64 of shape (channels,).

    Attributes:
        center: subtracted first.
        scale: factor.
        offset: added last.
        axis: of the channels, in [-ndim, ndim).
        is_far: whether the inputs lie far from zero, measured by their spread (`FAR`).
    """

    center: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    axis: int
    is_far: bool = False

    @classmethod
    def of(cls, layer: keras.layers.Layer) -> "Affine":
        """Return what a batch normalization layer computes in inference."""
        mean, variance = to_float64(layer.moving_mean), to_float64(layer.moving_variance)
        with np.errstate(invalid="ignore"):  # a broken variance stays one
            spread = np.sqrt(variance + layer.epsilon)
        gamma = to_float64(layer.gamma) if layer.scale else np.ones_like(mean)
        beta = to_float64(layer.beta) if layer.center else np.zeros_like(mean)
        is_far = bool(np.any(np.abs(mean) > FAR * spread))
        return cls(mean, gamma / spread, beta, layer.axis, is_far)

    @property
    def shift(self) -> np.ndarray:
        """The same function as `x * scale + shift`."""
        return self.offset - self.center * self.scale

    def followed_by(self, other: "Affine") -> "Affine":
        """Return `other(self(x))`."""
        scale = self.scale * other.scale
        offset = (self.offset - other.center) * other.scale + other.offset
        return dataclasses.replace(self, scale=scale, offset=offset)

    def without_scale(self) -> "Affine | None":
        """Return what is left when another layer multiplies by `scale`; None if nothing does that.

        One subtraction, unless the inputs lie far from zero: there a center that is not the mean
        itself would be rounded.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            back = np.where(self.offset == 0, 0.0, self.offset / self.scale)
        if not np.all(np.abs(self.center - back) < np.finfo("float32").max):  # also when NaN
            return None
        ones, zeros = np.ones_like(back), np.zeros_like(back)
        if self.is_far:
            return dataclasses.replace(self, scale=ones, offset=back)
        return dataclasses.replace(self, center=self.center - back, scale=ones, offset=zeros)

    def parts(self) -> dict[str, np.ndarray | None]:
        """Return what a `MultiplyAdd` needs; parts that change nothing are None."""
        rest = None if self.is_far else self.without_scale()
        short = self if rest is None else dataclasses.replace(rest, scale=self.scale)
        return {
            "center": short.center if short.center.any() else None,
            "scale": short.scale if (short.scale != 1).any() else None,
            "offset": short.offset if short.offset.any() else None,
        }


def to_float64(weight) -> np.ndarray:
    """Return a weight's values; merging rounds none of them before the end."""
    return keras.ops.convert_to_numpy(weight).astype("float64")
