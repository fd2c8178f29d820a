"""Batch normalization merged into its neighbors, for inference."""

import dataclasses
from collections.abc import Iterator

import keras

from bnzoo.layers import MultiplyAdd
from bnzoo.surgery.affine import is_batch_norm, named
from bnzoo.surgery.copying import NO_SUBLAYERS, copy_state, new_layer
from bnzoo.surgery.graph import Skipped, as_functional, check_model, copy_graph, is_graph
from bnzoo.surgery.plan import Plan
from bnzoo.versions import private


@dataclasses.dataclass(frozen=True)
class Folding:
    """What folding makes of one batch normalization layer.

    Attributes:
        layer: of the model, not of the folded one.
        path: its name behind those of the models and layers that it is inside: `"inner/norm"`.
        merged: whether a neighbor takes up all of it.
        text: what becomes of it, as in `"merged into 'conv1'"`, and why it is not merged.
    """

    layer: keras.layers.BatchNormalization
    path: str
    merged: bool
    text: str


def fold_batch_norm(
    model: keras.Model, report: bool = False
) -> keras.Model | tuple[keras.Model, list[Folding]]:
    """Return a model for inference that answers the same without batch normalization layers.

    Each is merged into the linear layer before it (dense, convolutions: depthwise, separable,
    transposed and grouped ones too), or into the one behind it where that is exact: across
    poolings and flattening, but no shift into a convolution whose borders are padded. What remains
    becomes one `bnzoo.layers.MultiplyAdd`. Layers that only training needs, such as dropout, are
    left out. Nested models are folded in themselves.

    Batch normalization inside a layer of another class stays as it is.

    Args:
        model: a functional or Sequential Keras model, built. It is left as it is.
        report: tell too what became of each batch normalization layer, as `fold_report` does.

    Returns:
        A new, uncompiled model with weights of its own; with `report` a pair of it and the report.
        For training use the original.

    Raises:
        InputError: not a Keras model, a subclassed or unbuilt one, or one with a layer that Keras
            cannot copy.

    Example:
        >>> import keras, numpy as np
        >>> normalization = keras.layers.BatchNormalization()
        >>> dense = keras.layers.Dense(2, use_bias=False)
        >>> model = keras.Sequential([keras.Input((3,)), dense, normalization])
        >>> folded = fold_batch_norm(model)
        >>> [type(layer).__name__ for layer in folded.layers]
        ['InputLayer', 'Dense']
        >>> x = np.ones((1, 3), "float32")
        >>> bool(np.allclose(folded(x), model(x), atol=1e-6))
        True
    """
    advice = "Fold the functional models inside it one by one, or export with fold=False."
    folding = _Fold(as_functional(model, advice))
    folded = folding.carry_out()
    return (folded, list(folding.report())) if report else folded


def fold_report(model: keras.Model) -> list[Folding]:
    """Tell for each batch normalization layer whether `fold_batch_norm` merges it, and why not.

    Args:
        model: any Keras model. Nothing of it is copied or changed.

    Returns:
        A record for each layer of the class or a subclass, nested ones and those inside other
        layers too, in the order in which the layers are used where that is known.

    Raises:
        InputError: not a Keras model.

    Example:
        >>> first, second = (keras.layers.BatchNormalization(name=name) for name in "ab")
        >>> stack = [first, keras.layers.ReLU(name="relu"), keras.layers.Dense(2, name="d"), second]
        >>> model = keras.Sequential([keras.Input((3,)), *stack])
        >>> [(one.path, one.merged) for one in fold_report(model)]
        [('a', False), ('b', True)]
        >>> fold_report(model)[1].text
        "merged into 'd'"
    """
    check_model(model)
    if is_graph(model):
        return list(_Fold(as_functional(model, "")).report())
    why = f"it is inside {named(model)}, which is no built functional or Sequential model"
    return list(_staying(model, "", why))


def has_batch_norm(model: keras.Model) -> bool:
    """Tell whether `fold_batch_norm` would find something in a model."""
    layers = model.layers if isinstance(model, keras.Model) else []
    return any(is_batch_norm(layer) or has_batch_norm(layer) for layer in layers)


class _Fold:
    """A functional model and the models nested in it, with what becomes of their layers."""

    def __init__(self, model: keras.Model):
        self._model, self._plan = model, Plan(model)
        self._nested = {
            id(layer): _Fold(as_functional(layer, ""))
            for layer in self._plan.layers
            if is_graph(layer)
        }
        self._made: list[tuple[keras.layers.Layer, list]] = []  # with the values of its weights
        self._copies: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []  # of original, copy

    def report(self, path: str = "") -> Iterator[Folding]:
        """Yield what becomes of each layer; `path` goes before their names."""
        for layer in self._plan.layers:
            if id(layer) in self._nested:
                yield from self._nested[id(layer)].report(f"{path}{layer.name}/")
            elif is_batch_norm(layer):
                merged = id(layer) not in self._plan.left
                yield Folding(layer, path + layer.name, merged, self._plan.becomes(layer))
            elif isinstance(layer, keras.layers.BatchNormalization):
                why = f"{type(layer).__name__} is a subclass, which may compute something else"
                yield Folding(layer, path + layer.name, False, f"stays as it is: {why}")
            elif isinstance(layer, keras.layers.Layer):
                why = f"it is inside {named(layer)}"
                yield from _staying(layer, f"{path}{layer.name}/", why)

    def carry_out(self) -> keras.Model:
        """Return the new model."""
        folded = copy_graph(self._model, self._copy, self._call)
        # Layers have their variables once they were called.
        for new, values in self._made:
            new.set_weights(values)
        for layer, new in self._copies:
            copy_state(layer, new)
        return folded

    def _copy(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """Return the layer that stands for another in the new model."""
        plan = self._plan
        if not isinstance(layer, keras.layers.Layer):
            return layer  # an operation such as +, which has no weights
        if id(layer) in self._nested:
            return self._nested[id(layer)].carry_out()
        if id(layer) in plan.dropped:
            return Skipped(name=layer.name)
        if id(layer) in plan.left:
            parts = plan.left[id(layer)].parts()
            uses = {name: part is not None for name, part in parts.items()}
            new = MultiplyAdd(axis=layer.axis, name=layer.name, dtype=layer.dtype_policy, **uses)
            self._made.append((new, [part for part in parts.values() if part is not None]))
        elif id(layer) in plan.weights:
            new = type(layer).from_config(plan.weights[id(layer)].config())
            self._made.append((new, plan.weights[id(layer)].values()))
        else:
            new = new_layer(layer)
            self._copies.append((layer, new))
        return new

    def _call(self, layer: keras.layers.Layer, *args, **kwargs):
        """Call a layer of the new model as its original was called."""
        if not isinstance(layer, Skipped | MultiplyAdd):
            return layer(*args, **kwargs)
        inputs = args[0] if args else kwargs["inputs"]
        return inputs if isinstance(layer, Skipped) else layer(inputs)


def _staying(
    owner: keras.layers.Layer, path: str, why: str, seen: set[int] | None = None
) -> Iterator[Folding]:
    """Yield the batch normalization inside a layer that is copied as a whole."""
    seen = {id(owner)} if seen is None else seen  # once, though several refer to it
    flatten = private(owner, "_flatten_layers", NO_SUBLAYERS)
    for layer in flatten(include_self=False, recursive=False) if flatten else []:
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if isinstance(layer, keras.layers.BatchNormalization):
            yield Folding(layer, path + layer.name, False, f"stays as it is: {why}")
        yield from _staying(layer, f"{path}{layer.name}/", why, seen)
