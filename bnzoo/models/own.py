"""Models that a function of the user's own builds, and the networks of Keras."""

import keras

from bnzoo import own_code
from bnzoo.config.own import BACKBONE_PARAMS, OwnModel
from bnzoo.errors import InputError
from bnzoo.layers import BatchNormalization


def build_own(parameters: OwnModel) -> keras.Model:
    """Build by a function of the user's own, or by one of Keras.

    Args:
        parameters: resolved with the shape and the classes of the data.

    Returns:
        The uncompiled model that it returned; a network of Keras with random weights, our batch
        normalization, and logits at its end.

    Raises:
        InputError: the function fails, with its file and line; or returns something else.
    """
    arguments = parameters.batch_norm.arguments()
    offered = {
        "input_shape": parameters.input_shape,
        "image_shape": parameters.input_shape if parameters.is_backbone else None,  # of KerasHub
        "classes": parameters.classes,
        "placement": parameters.placement,
        "batch_norm": lambda **more: BatchNormalization(**{**arguments, **more}),
    }
    given = {key: value for key, value in parameters.params.items() if key not in BACKBONE_PARAMS}
    if parameters.name.startswith("keras.applications:"):
        given = {"weights": None, "classifier_activation": None, **given}
    model = own_code.call(parameters.name, offered, given, "model.params")
    if not isinstance(model, keras.Model):
        raise InputError(
            f"{parameters.name}: expected a function that returns a keras.Model, got "
            f"{type(model).__name__}. End it with `return model`."
        )
    return _adapted(model, parameters) if parameters.is_backbone else model


def _adapted(model: keras.Model, parameters: OwnModel) -> keras.Model:
    """Return a network of Keras with our batch normalization, or none, and with a classifier."""
    if parameters.params.get("replace_batch_norm", True):
        from bnzoo.surgery import replace_batch_norm

        # Momentum and epsilon stay the network's own, but for what the config asks for.
        changed = parameters.batch_norm.model_dump(exclude_defaults=True)
        is_none = parameters.placement == "none"
        model = replace_batch_norm(model, **({"to": None} if is_none else changed))
    x, classes = model.outputs[0], parameters.classes
    if classes is None or tuple(x.shape[1:]) == (classes,):
        return model
    if len(x.shape) > 2:  # without its top, or a backbone of KerasHub: features
        x = keras.layers.GlobalAveragePooling2D(data_format="channels_last")(x)
    x = keras.layers.Dense(classes, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(model.inputs, x, name=model.name)
