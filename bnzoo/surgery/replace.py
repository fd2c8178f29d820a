"""Batch normalization of one kind replaced by another, or taken out."""

from typing import Any

import keras

from bnzoo.errors import InputError, nearest
from bnzoo.layers import BatchNormalization
from bnzoo.layers.finding import batch_norm_layers
from bnzoo.surgery.affine import is_batch_norm
from bnzoo.surgery.graph import check_model
from bnzoo.surgery.in_place import CHANGEABLE, become, changed_layer, forget_compiled_steps
from bnzoo.surgery.new_graph import with_group_norm, without_batch_norm

CLASSES = {"bnzoo": BatchNormalization, "keras": keras.layers.BatchNormalization}
ARGUMENTS = {
    "bnzoo": CHANGEABLE,
    "keras": ("momentum", "epsilon", "synchronized"),
    "group_norm": ("groups", "epsilon"),
    None: (),
}
"""What the layers can become, and which arguments each takes."""


def replace_batch_norm(
    model: keras.Model, to: str | None = "bnzoo", *, force: bool = False, **arguments: Any
) -> keras.Model:
    """Replace the batch normalization of a Keras model by bnzoo's, Keras', group norm, or nothing.

    Between Keras' layer and bnzoo's it happens in place, in a model of any kind: functional,
    Sequential, subclassed; in nested models, wrappers and layers that are used twice. Each layer
    stays the same object with the same variables and gets another class, so that weights, trainable
    flags, order of variables and the optimizer's state stay. The compiled steps of the model, and
    of models inside it, are made anew; one that this model is a part of must be compiled again.
    Subclasses of either layer are left as they are.

    With `to="group_norm"` or `to=None` the result is a new functional model, uncompiled, with
    weights of its own, which answers otherwise than the old one until it is trained.

    Args:
        model: a Keras model. For `"bnzoo"` and `"keras"` built or not.
        to: `"bnzoo"` for `bnzoo.BatchNormalization`, also to give other arguments to layers that
            are that already; `"keras"` for `keras.layers.BatchNormalization`; `"group_norm"` for
            `keras.layers.GroupNormalization`, which does not depend on the size of the batch; None
            for nothing, where a linear layer without a bias before it gains one.
        force: with `"keras"`, leave out what Keras' layer does not have, such as
            `virtual_batch_size`, instead of raising an error.
        **arguments: what is to differ from the old layers. For `"bnzoo"`: `momentum`, `epsilon`,
            `synchronized`, `implementation`, `virtual_batch_size`, `unbiased_moving_variance`,
            `frozen_statistics`; for `"keras"` the first three; for `"group_norm"`: `groups` (32;
            the greatest common divisor of it and the number of channels is taken) and `epsilon`.
            With `momentum=None` each layer gains the weight `num_batches`, which starts at 0.

    Returns:
        The same model for `"bnzoo"` and `"keras"`, else a new one.

    Raises:
        InputError: there is no batch normalization to replace, an argument is unknown or out of its
            range, Keras' layer cannot express what a layer is, or a new model was asked for and
            this one is not functional or Sequential, or has batch normalization inside another
            layer. The model is then as it was.

    Example:
        >>> import keras
        >>> stack = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization()]
        >>> model = keras.Sequential(stack)
        >>> model = replace_batch_norm(model, virtual_batch_size=8)
        >>> model.layers[-1].virtual_batch_size
        8
        >>> [type(layer).__name__ for layer in replace_batch_norm(model, to=None).layers]
        ['InputLayer', 'Dense']
    """
    check_model(model)
    _check_arguments(to, arguments)
    layers = [layer for layer in batch_norm_layers(model) if is_batch_norm(layer)]
    if not layers:
        raise InputError(_nothing_found(model))
    if to not in CLASSES:
        return without_batch_norm(model) if to is None else with_group_norm(model, **arguments)
    changes = [(layer, changed_layer(layer, CLASSES[to], force, arguments)) for layer in layers]
    for layer, new in changes:
        become(layer, new)
    forget_compiled_steps(model)
    return model


def _check_arguments(to: str | None, arguments: dict[str, Any]) -> None:
    if to not in ARGUMENTS:
        names = [name for name in ARGUMENTS if name]
        raise InputError(
            f"Received to={to!r}, expected one of {names} or None. {nearest(to, names)}".rstrip()
        )
    unknown = [name for name in arguments if name not in ARGUMENTS[to]]
    if unknown:
        raise InputError(
            f"Received {unknown[0]}={arguments[unknown[0]]!r} with to={to!r}, expected "
            f"{f'only {list(ARGUMENTS[to])}' if ARGUMENTS[to] else 'no arguments'}. "
            f"{nearest(unknown[0], ARGUMENTS[to])}".rstrip()
        )


def _nothing_found(model: keras.Model) -> str:
    others = {type(layer).__name__ for layer in batch_norm_layers(model)}
    found = f"only its subclass {sorted(others)[0]}" if others else "none"
    return (
        f"model {model.name!r}: expected a layer of batch normalization (Keras' or bnzoo's), found "
        f"{found}. There is nothing to do."
    )
