"""Layers copied with all that they have learned: weights, vocabularies, what is computed from them.

`Layer.set_weights` is not enough: an adapted `Normalization` divides by what it computed from its
weights, and a lookup's vocabulary is no weight at all.
"""

import tempfile

import keras

from bnzoo.errors import InputError, first_sentence
from bnzoo.versions import private

NO_SUBLAYERS = "Layers inside other layers are not looked at."


def new_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return a layer of the same configuration, not built; `copy_state` gives it the rest.

    Raises:
        InputError: the layer's class has no `get_config` that its constructor can read.
    """
    try:
        return type(layer).from_config(layer.get_config())
    except Exception as error:  # whatever a user's class raises
        raise _cannot_copy(
            layer, "Give its class a get_config that its constructor can read", error
        ) from error


def copy_state(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Give a layer the state of another of the same configuration, as saving and loading would.

    That is all variables, those of seed generators too, and for the layer and each one inside it
    what its `save_own_variables` and `save_assets` keep and their loaders restore.

    Args:
        source: built.
        target: built, as it is once it has been called: what its outputs look like does not
            depend on the state, but its variables do not exist before.

    Raises:
        InputError: the two do not have the same variables or layers, or a loader fails.
    """
    try:
        for one, other in zip(source.variables, target.variables, strict=True):
            other.assign(one.value)
        for one, other in zip(with_sublayers(source), with_sublayers(target), strict=True):
            _copy_own_state(one, other)
    except Exception as error:  # whatever a user's class raises
        methods = "save_own_variables, load_own_variables, save_assets and load_assets"
        raise _cannot_copy(source, f"Look at its class' {methods}", error) from error


def _copy_own_state(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    store = {}
    source.save_own_variables(store)
    target.load_own_variables(
        {name: keras.ops.convert_to_numpy(value) for name, value in store.items()}
    )
    if hasattr(source, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            source.save_assets(folder)
            target.load_assets(folder)


def with_sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return a layer and all that are inside it, at any depth."""
    flatten = private(layer, "_flatten_layers", NO_SUBLAYERS)
    return list(flatten()) if flatten else [layer]


def _cannot_copy(layer: keras.layers.Layer, advice: str, error: Exception) -> InputError:
    return InputError(
        f"layer {layer.name!r}: a {type(layer).__name__} cannot be copied "
        f"({first_sentence(error)}). {advice}, or export with fold=False (--no-fold)."
    )
