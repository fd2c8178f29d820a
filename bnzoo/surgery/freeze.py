"""Batch normalization kept in inference mode while the rest of a model trains."""

import keras

from bnzoo.errors import InputError
from bnzoo.layers import BatchNormalization
from bnzoo.layers.finding import batch_norm_layers
from bnzoo.surgery.graph import check_model
from bnzoo.surgery.in_place import forget_compiled_steps


def freeze_batch_norm(model: keras.Model, statistics_only: bool = False) -> keras.Model:
    """Have batch normalization use its moving statistics in training too, and leave them alone.

    For fine-tuning on batches that are small or unlike the data that the statistics came from. Its
    gamma and beta rest too, as with Keras' `trainable = False`, which this is. It applies to layers
    of Keras and bnzoo, subclasses too, wherever they are in the model. The flag is part of each
    layer's config, so it is saved and loaded with a functional or Sequential model; a subclassed
    one makes its layers anew when it is loaded, and must be frozen again.

    As after any change of `trainable`, compile the model again, for its optimizer to know: JAX
    refuses the next step otherwise, and a saved optimizer's state is not loaded.

    Args:
        model: a Keras model. It is changed.
        statistics_only: let gamma and beta learn (where `trainable` is True). This is
            `frozen_statistics` of `bnzoo.BatchNormalization`, needs no new compilation, and is
            saved in each layer's config too.

    Returns:
        The same model.

    Raises:
        InputError: there is no batch normalization; or `statistics_only`, and a layer is Keras'.

    Example:
        >>> import numpy as np
        >>> stack = [keras.Input((2,)), BatchNormalization(), keras.layers.Dense(1)]
        >>> model = freeze_batch_norm(keras.Sequential(stack))
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(np.ones((4, 2)), np.ones(4), verbose=0)
        >>> model.layers[0].moving_mean.numpy().tolist()
        [0.0, 0.0]
    """
    layers = _layers(model)
    if statistics_only:
        for layer in layers:
            if not isinstance(layer, BatchNormalization):
                raise InputError(
                    f"layer {layer.name!r}: expected a bnzoo.BatchNormalization for "
                    f"statistics_only=True, got {type(layer).__module__}.{type(layer).__name__}. "
                    "Replace it first: bnzoo.replace_batch_norm(model)."
                )
        for layer in layers:
            layer.frozen_statistics = True
    else:
        for layer in layers:
            layer.trainable = False
    forget_compiled_steps(model)
    return model


def unfreeze_batch_norm(model: keras.Model) -> keras.Model:
    """Have batch normalization learn and follow its batches again: undo `freeze_batch_norm`.

    Every layer of batch normalization is trainable afterwards. Compile the model again.

    Args:
        model: a Keras model. It is changed.

    Returns:
        The same model.

    Raises:
        InputError: there is no batch normalization.
    """
    for layer in _layers(model):
        layer.trainable = True
        if isinstance(layer, BatchNormalization):
            layer.frozen_statistics = False
    forget_compiled_steps(model)
    return model


def _layers(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    check_model(model)
    layers = list(batch_norm_layers(model))
    if not layers:
        raise InputError(
            f"model {model.name!r}: expected a layer of batch normalization, found none. "
            "There is nothing to freeze."
        )
    return layers
