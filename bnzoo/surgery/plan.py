"""What becomes of each batch normalization layer when a model is folded, and why."""

import contextlib

import keras

from bnzoo.surgery.affine import Affine, CannotMerge, is_batch_norm, named
from bnzoo.surgery.commuting import does_nothing, move_across
from bnzoo.surgery.graph import Graph
from bnzoo.surgery.linear import LINEAR_LAYERS, LinearWeights, check_axis, is_linear


class Plan:
    """What becomes of each layer of one graph: decided here, carried out by `fold_batch_norm`.

    Args:
        model: functional; nested models count as one layer.

    Attributes:
        layers: the model's, those before others first.
        weights: of linear layers that may take up something, by id of the layer.
        left: what becomes a `MultiplyAdd`, by id of the layer.
        dropped: ids of the layers that are left out.
    """

    def __init__(self, model: keras.Model):
        self._graph = Graph(model)
        self.layers = self._graph.layers()
        self.weights: dict[int, LinearWeights] = {}
        self.left: dict[int, Affine] = {}
        self.dropped: set[int] = set()
        self._merged: dict[int, str] = {}  # what is merged, as a text
        self._reasons: dict[int, list[str]] = {}  # why not
        normalizations = [layer for layer in self.layers if is_batch_norm(layer)]
        self.dropped.update(id(layer) for layer in self.layers if self._can_go(layer))
        for layer in normalizations:
            self.left[id(layer)] = Affine.of(layer)
        for layer in normalizations:
            self._try(self._fold_back, layer)
        for layer in reversed(normalizations):
            if id(layer) in self.left:
                self._try(self._fold_forward, layer)

    def becomes(self, layer: keras.layers.Layer) -> str:
        """Say what becomes of a batch normalization layer, and why it is not merged."""
        merged, reasons = self._merged.get(id(layer), ""), self._reasons.get(id(layer), [])
        if id(layer) not in self.left:
            return merged
        # Where the layer itself stands in the way, it does so on both sides.
        why = ", and ".join(dict.fromkeys(reasons))
        return f"{merged and merged + ', the rest '}becomes a MultiplyAdd: {why}"

    def _try(self, fold, layer: keras.layers.Layer) -> None:
        try:
            self._check_dtype(layer)
            fold(layer)
        except CannotMerge as reason:
            self._reasons.setdefault(id(layer), []).append(str(reason))

    def _check_dtype(self, layer: keras.layers.Layer) -> None:
        inputs, outputs = self._graph.call(layer)
        if inputs.dtype != outputs.dtype:
            raise CannotMerge(f"{named(layer)} turns {inputs.dtype} into {outputs.dtype}")

    def _can_go(self, layer: keras.layers.Layer) -> bool:
        with contextlib.suppress(CannotMerge):
            if does_nothing(layer):
                self._check_dtype(layer)
                return True
        return False

    def _fold_back(self, layer: keras.layers.Layer) -> None:
        """Merge a normalization into the linear layer, or the normalization, before it."""
        source, affine = self._source(layer), self.left[id(layer)]
        ndim = len(self._graph.call(layer)[0].shape)
        if id(source) not in self.left:
            check_axis(affine, source, ndim)
            self._weights_of(source).take_outputs(affine)
            self._merge(layer, f"merged into {source.name!r}")
            return
        self._check_dtype(source)
        first = self.left[id(source)]
        if first.axis % ndim != affine.axis % ndim:
            raise CannotMerge(f"{named(source)} before it is along another axis")
        self.left[id(layer)] = first.followed_by(affine)
        self._merge(source, f"merged with batch normalization {layer.name!r}")
        # What kept the first from going further back keeps both.
        self._reasons[id(layer)] = self._reasons.pop(id(source))

    def _source(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """Return the linear layer, or the normalization, that feeds a layer and nothing else."""
        while True:
            source = self._graph.maker(layer)
            passed = id(source) in self.dropped
            if not (passed or id(source) in self.left or is_linear(source)):
                raise CannotMerge(
                    f"{named(source)} before it is no plain dense layer or convolution"
                )
            self._graph.before(layer)
            if not passed:
                return source
            layer = source

    def _fold_forward(self, layer: keras.layers.Layer) -> None:
        """Merge what is left of a normalization into a linear layer behind it."""
        affine = self.left[id(layer)]
        moved, target = self._moved_to_linear(affine, layer)
        weights = self._weights_of(target)
        try:
            weights.take_inputs(moved)
        except CannotMerge:
            rest = affine.without_scale()
            if rest is not None:
                # The scale alone goes across any border; what is left subtracts.
                weights.take_input_scale(moved.scale)
                self.left[id(layer)] = rest
                self._merged[id(layer)] = f"its scale is merged into {target.name!r}"
            raise
        self._merge(layer, f"merged into {target.name!r}")

    def _moved_to_linear(
        self, affine: Affine, layer: keras.layers.Layer
    ) -> tuple[Affine, keras.layers.Layer]:
        """Follow the only way from a normalization to a linear layer, as long as it can pass."""
        while True:
            layer = self._graph.after(layer)
            shape = self._graph.call(layer)[0].shape
            if is_linear(layer):
                check_axis(affine, layer, len(shape))
                return affine, layer
            affine = move_across(affine, layer, shape)

    def _weights_of(self, layer: keras.layers.Layer) -> LinearWeights:
        if id(layer) not in self.weights:
            self.weights[id(layer)] = LINEAR_LAYERS[type(layer)](layer)
        return self.weights[id(layer)]

    def _merge(self, layer: keras.layers.Layer, text: str) -> None:
        del self.left[id(layer)]
        self.dropped.add(id(layer))
        self._merged[id(layer)] = text
