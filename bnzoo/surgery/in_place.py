"""Batch normalization layers changed where they are: Keras' class to ours and back.

The layer stays the same object with the same variables, so that all that refers to it stays right:
graphs of functional models, attributes and lists of subclassed ones, wrappers, layers that are used
twice, optimizers, checkpoints. It gets another class and the attributes that this class needs.
"""

import types
from typing import Any

import keras

from bnzoo.errors import InputError
from bnzoo.layers import BatchNormalization
from bnzoo.layers.finding import every_layer

CHANGEABLE = (
    "momentum",
    "epsilon",
    "synchronized",
    "implementation",
    "virtual_batch_size",
    "unbiased_moving_variance",
    "frozen_statistics",
)
"""The arguments that say how a layer behaves; the others say what weights it has and where."""


def changed_layer(
    layer: keras.layers.BatchNormalization, cls: type, force: bool, arguments: dict[str, Any]
) -> keras.layers.BatchNormalization:
    """Return a new layer of a class: what another is to become.

    Args:
        layer: `is_batch_norm`. It is left as it is.
        cls: `keras.layers.BatchNormalization` or `bnzoo.BatchNormalization`.
        force: leave out what the class cannot express.
        arguments: those of `CHANGEABLE` that are to have other values than the layer's.

    Returns:
        A layer that is built if the other is, with weights of its own.

    Raises:
        InputError: an argument is out of its range, or the class cannot express what the layer is.
    """
    try:
        # Not from_config, whose errors print the whole config first.
        new = BatchNormalization(**{**layer.get_config(), **arguments})
        if cls is not BatchNormalization:
            new = _of_keras(new, force)
        if layer.built:
            # The paths of weights follow from it: new ones are as if the layer had made them.
            new._parent_path = getattr(layer, "_parent_path", None)
            new.build_from_config(layer.get_build_config())
    except (TypeError, ValueError) as error:
        raise InputError(f"layer {layer.name!r}: {error}") from error
    return new


def _of_keras(layer: BatchNormalization, force: bool) -> keras.layers.BatchNormalization:
    config, cls = layer.get_config(), keras.layers.BatchNormalization
    known = cls(name=layer.name).get_config()
    lost = {name: value for name, value in config.items() if name not in known}
    lost |= {"momentum": None} if layer.momentum is None else {}
    if lost and not force:
        raise InputError(
            "Keras' BatchNormalization cannot be told "
            f"{', '.join(f'{name}={value!r}' for name, value in lost.items())}. "
            "Keep bnzoo's layer, or go on without with force=True (--force)."
        )
    return cls(**{name: config[name] for name in config if name not in lost})


def become(layer: keras.layers.BatchNormalization, new: keras.layers.BatchNormalization) -> None:
    """Turn a layer into what a new one is; its variables and whether it is trainable stay.

    Args:
        layer: `is_batch_norm`.
        new: made for it by `changed_layer`; it is used up.
    """
    have, wanted = ({weight.name: weight for weight in one.weights} for one in (layer, new))
    for name in have.keys() - wanted.keys():
        layer._untrack_variable(have[name])
        setattr(layer, name, None)
    for name in vars(type(layer)(name=layer.name)).keys() & vars(layer).keys() - vars(new).keys():
        delattr(layer, name)  # what only the old class has
    if not layer.built:
        _change_build(layer, type(new))
    layer.__class__ = type(new)
    for name, value in vars(new).items():
        if name in CHANGEABLE or (name not in vars(layer) and name[0] != "_"):
            setattr(layer, name, None if name in wanted else value)
    for name in wanted.keys() - have.keys():
        layer._tracker.unlock()  # as Keras does before it gives a built layer LoRA's weights
        setattr(layer, name, wanted[name])
        layer._tracker.lock()


def _change_build(layer: keras.layers.BatchNormalization, cls: type) -> None:
    """Let `layer.build`, which Keras wraps when it makes a layer, call that of another class."""
    names = layer.build.__code__.co_freevars
    cell = layer.build.__closure__[names.index("original_build_method")]
    cell.cell_contents = types.MethodType(cls.build, layer)


def forget_compiled_steps(model: keras.Model) -> None:
    """Have the steps of a compiled model, and of models inside it, made anew when next used."""
    for layer in every_layer(model):
        if isinstance(layer, keras.Model):
            layer.train_function = layer.test_function = layer.predict_function = None
