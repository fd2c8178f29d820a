"""Layers that an affine function can be moved across, from before them to behind them."""

import dataclasses

import keras
import numpy as np

from bnzoo.surgery.affine import Affine, CannotMerge, named
from bnzoo.surgery.linear import channel_axis, check_axis, no_shift

_layers = keras.layers
ONLY_IN_TRAINING = (
    _layers.ActivityRegularization,
    _layers.AlphaDropout,
    _layers.Dropout,
    _layers.GaussianDropout,
    _layers.GaussianNoise,
    _layers.Identity,
    _layers.SpatialDropout1D,
    _layers.SpatialDropout2D,
    _layers.SpatialDropout3D,
)
MAXIMA = (
    _layers.GlobalMaxPooling1D,
    _layers.GlobalMaxPooling2D,
    _layers.GlobalMaxPooling3D,
    _layers.MaxPooling1D,
    _layers.MaxPooling2D,
    _layers.MaxPooling3D,
)
AVERAGES = (
    _layers.AveragePooling1D,
    _layers.AveragePooling2D,
    _layers.AveragePooling3D,
    _layers.GlobalAveragePooling2D,
    _layers.GlobalAveragePooling3D,
)


def does_nothing(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer passes its inputs on unchanged in inference."""
    if type(layer) is _layers.Activation:
        return layer.activation is keras.activations.linear
    return type(layer) in ONLY_IN_TRAINING


def move_across(affine: Affine, layer: keras.layers.Layer, shape: tuple) -> Affine:
    """Return the function behind a layer that equals `affine` before it.

    Args:
        affine: of the layer's input.
        layer: any.
        shape: of the layer's input, with the batch; None where unknown.

    Raises:
        CannotMerge: there is none, or none that is exact.
    """
    if does_nothing(layer):
        return affine
    if type(layer) is _layers.Flatten:
        return _flattened(affine, layer, shape)
    if type(layer) not in MAXIMA + AVERAGES:
        raise CannotMerge(f"it cannot go past {named(layer)}")
    # A negative scale turns the largest value into the smallest.
    if type(layer) in MAXIMA and not np.all(affine.scale > 0):
        raise CannotMerge(f"a scale that is not positive cannot go past {named(layer)}")
    # With padding, backends differ in what they divide by at the border.
    if type(layer) in AVERAGES and getattr(layer, "padding", "valid") != "valid":
        raise no_shift(layer)
    ndim = len(shape)
    check_axis(affine, layer, ndim)
    kept = ndim if hasattr(layer, "pool_size") or layer.keepdims else 2
    return dataclasses.replace(affine, axis=channel_axis(layer, kept))


def _flattened(affine: Affine, layer: keras.layers.Layer, shape: tuple) -> Affine:
    """Repeat the channels' values as often as flattening repeats the channels."""
    if None in shape[1:] or layer.data_format != "channels_last":
        raise CannotMerge(f"{named(layer)} flattens a size that is unknown, or channels_first")
    place = [1] * (len(shape) - 1)
    place[affine.axis % len(shape) - 1] = -1

    def repeat(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values.reshape(place), shape[1:]).ravel()

    values = (repeat(part) for part in (affine.center, affine.scale, affine.offset))
    return Affine(*values, axis=-1, is_far=affine.is_far)
