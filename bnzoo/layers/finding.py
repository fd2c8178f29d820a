"""Find batch normalization in a model of any kind."""

from collections.abc import Iterator

import keras

from bnzoo.versions import private


def every_layer(model: keras.Model) -> list[keras.layers.Layer]:
    """Return a model and all that is in it, once each: nested models, wrappers, own layers."""
    flatten = private(model, "_flatten_layers", "Layers inside others are not found.")
    return list(flatten()) if flatten else [model, *model.layers]


def batch_norm_layers(model: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    """Yield the batch normalization layers of a model, ours and Keras', and those inside others."""
    for layer in every_layer(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer
