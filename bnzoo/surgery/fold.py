"""Batch normalization merged into its neighbors, for inference."""

import keras

from bnzoo.layers import MultiplyAdd
from bnzoo.surgery.affine import Affine, is_batch_norm
from bnzoo.surgery.commuting import does_nothing, move_across
from bnzoo.surgery.copying import copy_state, new_layer
from bnzoo.surgery.graph import Graph, Skipped, as_functional, copy_graph, is_graph
from bnzoo.surgery.linear import LINEAR_LAYERS, LinearWeights, channel_axis, is_linear


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Return a model for inference that answers the same without batch normalization layers.

    Each is merged into the linear layer before it (dense, convolutions: depthwise, separable,
    transposed and grouped ones too), or into the one behind it where that is exact: across
    poolings and flattening, but no shift into a convolution whose borders are padded. What remains
    becomes one `bnzoo.layers.MultiplyAdd`. Layers that only training needs, such as dropout, are
    left out. Nested models are folded in themselves.

    Batch normalization inside a layer of another class stays as it is.

    Args:
        model: a functional or Sequential Keras model, built. It is left as it is.

    Returns:
        A new, uncompiled model with weights of its own. For training use the original.

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
    functional = as_functional(
        model, "Fold the functional models inside it one by one, or export with fold=False."
    )
    plan = _Plan(functional)
    folded = copy_graph(functional, plan.copy, plan.call)
    plan.fill()
    return folded


def has_batch_norm(model: keras.Model) -> bool:
    """Tell whether `fold_batch_norm` would find something in a model."""
    layers = model.layers if isinstance(model, keras.Model) else []
    return any(is_batch_norm(layer) or has_batch_norm(layer) for layer in layers)


class _Plan:
    """What becomes of each layer: decided first, then carried out while Keras copies the graph."""

    def __init__(self, model: keras.Model):
        self._graph = Graph(model)
        self._weights: dict[int, LinearWeights] = {}  # by id of the original layer
        self._left: dict[int, Affine] = {}
        self._dropped: set[int] = set()
        self._made: list[tuple[keras.layers.Layer, list]] = []  # with the values of its weights
        self._copies: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []  # of original, copy
        layers = self._graph.layers()
        normalizations = [layer for layer in layers if is_batch_norm(layer)]
        for layer in layers:
            if does_nothing(layer) and self._keeps_dtype(layer):
                self._dropped.add(id(layer))
        for layer in normalizations:
            self._left[id(layer)] = Affine.of(layer)
        for layer in normalizations:
            self._fold_back(layer)
        for layer in reversed(normalizations):
            if id(layer) in self._left:
                self._fold_forward(layer)

    # --- deciding --------------------------------------------------------------------------------

    def _keeps_dtype(self, layer: keras.layers.Layer) -> bool:
        if not self._graph.is_called_once(layer):
            return False
        inputs, outputs = self._graph.call(layer)
        return inputs.dtype == outputs.dtype

    def _fold_back(self, layer: keras.layers.Layer) -> None:
        """Merge a normalization into the linear layer, or the normalization, before it."""
        if not self._keeps_dtype(layer):
            return
        source, affine = self._graph.before(layer), self._left[id(layer)]
        while source is not None and id(source) in self._dropped:
            source = self._graph.before(source)
        if source is None:
            return
        ndim = len(self._graph.call(layer)[0].shape)
        if id(source) in self._left:
            first = self._left[id(source)]
            if first.axis % ndim == affine.axis % ndim and self._keeps_dtype(source):
                self._left[id(layer)] = first.followed_by(affine)
                self._drop(source)
        elif (
            is_linear(source)
            and channel_axis(source, ndim) == affine.axis % ndim
            and self._weights_of(source).take_outputs(affine)
        ):
            self._drop(layer)

    def _fold_forward(self, layer: keras.layers.Layer) -> None:
        """Merge what is left of a normalization into a linear layer behind it."""
        if not self._keeps_dtype(layer):
            return
        affine = self._left[id(layer)]
        moved, target = self._moved_to_linear(layer, affine)
        if moved is None:
            return
        weights, rest = self._weights_of(target), affine.without_scale()
        if weights.take_inputs(moved):
            self._drop(layer)
        # The scale alone goes across any border; what is left subtracts.
        elif rest is not None and weights.take_input_scale(moved.scale):
            self._left[id(layer)] = rest

    def _moved_to_linear(self, layer: keras.layers.Layer, affine: Affine):
        """Follow the only way from a normalization to a linear layer, as long as it can pass."""
        moved, target = affine, self._graph.after(layer)
        while target is not None:
            shape = self._graph.call(target)[0].shape
            if is_linear(target):
                fits = channel_axis(target, len(shape)) == moved.axis % len(shape)
                return (moved, target) if fits else (None, None)
            moved = move_across(moved, target, shape)
            target = None if moved is None else self._graph.after(target)
        return None, None

    def _weights_of(self, layer: keras.layers.Layer) -> LinearWeights:
        if id(layer) not in self._weights:
            self._weights[id(layer)] = LINEAR_LAYERS[type(layer)](layer)
        return self._weights[id(layer)]

    def _drop(self, layer: keras.layers.Layer) -> None:
        self._left.pop(id(layer), None)
        self._dropped.add(id(layer))

    # --- carrying out ----------------------------------------------------------------------------

    def copy(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """Return the layer that stands for another in the new model."""
        if not isinstance(layer, keras.layers.Layer):
            return layer  # an operation such as +, which has no weights
        if is_graph(layer):
            return fold_batch_norm(layer)
        if id(layer) in self._dropped:
            return Skipped(name=layer.name)
        if id(layer) in self._left:
            parts = self._left[id(layer)].parts()
            uses = {name: part is not None for name, part in parts.items()}
            new = MultiplyAdd(axis=layer.axis, name=layer.name, dtype=layer.dtype_policy, **uses)
            self._made.append((new, [part for part in parts.values() if part is not None]))
        elif id(layer) in self._weights:
            new = type(layer).from_config(self._weights[id(layer)].config())
            self._made.append((new, self._weights[id(layer)].values()))
        else:
            new = new_layer(layer)
            self._copies.append((layer, new))
        return new

    def call(self, layer: keras.layers.Layer, *args, **kwargs):
        """Call a layer of the new model as its original was called."""
        if not isinstance(layer, Skipped | MultiplyAdd):
            return layer(*args, **kwargs)
        inputs = args[0] if args else kwargs["inputs"]
        return inputs if isinstance(layer, Skipped) else layer(inputs)

    def fill(self) -> None:
        """Fill the layers of the new model, which have their variables once they were called."""
        for new, values in self._made:
            new.set_weights(values)
        for layer, new in self._copies:
            copy_state(layer, new)
