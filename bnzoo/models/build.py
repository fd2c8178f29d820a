"""From a name and parameters to an uncompiled model."""

from collections.abc import Callable
from typing import Any

import keras

from bnzoo.config.models import MODEL_NAMES, ModelParameters, model_parameters
from bnzoo.config.models.trained import trained
from bnzoo.config.own import OwnModel
from bnzoo.models.conv1d import build_conv1d
from bnzoo.models.dense import build_dense
from bnzoo.models.inception import build_inception
from bnzoo.models.lenet import build_lenet
from bnzoo.models.own import build_own
from bnzoo.models.resnet import build_resnet
from bnzoo.models.small_conv import build_small_conv
from bnzoo.models.vgg import build_vgg

BUILDERS: dict[str, Callable[[Any], keras.Model]] = {
    "conv1d": build_conv1d,
    "dense": build_dense,
    "f1": build_dense,
    "inception": build_inception,
    "lenet": build_lenet,
    "one_conv": build_small_conv,
    "resnet": build_resnet,
    "sigmoid_mlp": build_dense,
    "three_conv": build_small_conv,
    "vgg": build_vgg,
}


def list_models() -> list[str]:
    """Return the names that `build` knows, sorted."""
    return list(MODEL_NAMES)


def build(
    name: str, placement: str = "before", *, weights: str | None = None, **params: Any
) -> keras.Model:
    """Build an uncompiled model whose outputs are logits, without a softmax.

    Args:
        name: one of `list_models()`.
        placement: of batch normalization: `"none"`, `"before"` or `"after"` the activation.
        weights: name of the data that the weights were trained on, `"devanagari_digits"` of
            `three_conv` or `"mnist"` of `dense`, each with placement `"before"` and `"none"`; None
            is random weights. Not a key of a config, whose runs begin with random weights.
        **params: other parameters of the model, as in a config; the schemas in
            `bnzoo.config.models` explain them. Sizes left out are the published ones; with
            `weights` all that is left out is as it was trained, and nothing can be otherwise.

    Returns:
        The model. `keras.utils.set_random_seed` before the call makes its weights reproducible.
        Trained ones take float images of shape (batch, height, width, 1), channels last, with
        pixels divided by 255 into [0, 1] and ink bright, as `bnzoo.data.load` makes them;
        bnzoo/models/README.md has their cards.

    Raises:
        InputError: an unknown name or parameter, or a value that the model cannot take; there are
            no such weights, or they were trained with other parameters.

    Example:
        >>> import bnzoo.models
        >>> bnzoo.models.build("dense", units=[32], batch_norm={"momentum": 0.9}).output_shape
        (None, 10)
        >>> bnzoo.models.build("three_conv", weights="devanagari_digits").input_shape
        (None, 32, 32, 1)
    """
    parameters = model_parameters(name, placement=placement, **params)
    if weights is None:
        return build_model(parameters)
    parameters, file = trained(parameters, weights)
    model = build_model(parameters)
    model.load_weights(file)
    return model


def build_model(parameters: ModelParameters | OwnModel) -> keras.Model:
    """Build from checked parameters, for example the `model` section of a config.

    Args:
        parameters: of one model; sizes left open are the published ones, or unknown to a function
            of the user's own.

    Returns:
        The uncompiled model.

    Raises:
        InputError: a function of the user's own fails, or returns no model.
    """
    if isinstance(parameters, OwnModel):
        return build_own(parameters)
    parameters = parameters.resolved()
    return BUILDERS[parameters.name](parameters)
