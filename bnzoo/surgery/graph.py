"""A functional model as a graph of layers: what feeds a layer, and what it feeds."""

import keras

from bnzoo.versions import private

NO_NODES = "Batch normalization is replaced by MultiplyAdd, and merged into no other layer."


class Graph:
    """The calls of layers that make up a functional model.

    Args:
        model: functional; nested models count as one layer.
    """

    def __init__(self, model: keras.Model):
        # Keras has no public way to a model's own calls: `layer.output` and the like know those
        # of every model that a layer is part of.
        by_depth = private(model, "_nodes_by_depth", NO_NODES) or {}
        self._layers = model.layers
        self._nodes = [
            node
            for depth in sorted(by_depth, reverse=True)
            for node in by_depth[depth]
            if not node.is_input
        ]
        self._outputs = {id(tensor) for tensor in model.outputs}
        self._makers = {id(tensor): node for node in self._nodes for tensor in node.outputs}
        self._users: dict[int, list] = {}
        self._calls: dict[int, list] = {}
        for node in self._nodes:
            self._calls.setdefault(id(node.operation), []).append(node)
            for tensor in node.input_tensors:
                self._users.setdefault(id(tensor), []).append(node)

    def layers(self) -> list[keras.layers.Layer]:
        """Return every layer once, those before others first."""
        found = {id(node.operation): node.operation for node in self._nodes}
        return list(found.values()) or self._layers

    def is_called_once(self, layer: keras.layers.Layer) -> bool:
        """Tell whether a layer is used at one place only, with one tensor in and one out."""
        nodes = self._calls.get(id(layer), [])
        return [(len(node.outputs), len(node.arguments.args)) for node in nodes] == [(1, 1)]

    def call(self, layer: keras.layers.Layer) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return input and output of a layer that `is_called_once`."""
        (node,) = self._calls[id(layer)]
        return node.arguments.args[0], node.outputs[0]

    def users(self, tensor: keras.KerasTensor) -> list[tuple[keras.Operation, list]]:
        """Return what a tensor is handed to, layers and operations, each with what it makes."""
        return [(node.operation, node.outputs) for node in self._users.get(id(tensor), [])]

    def before(self, layer: keras.layers.Layer) -> keras.layers.Layer | None:
        """Return the layer that makes a layer's input, if nothing else uses what it makes.

        Args:
            layer: `is_called_once`.

        Returns:
            A layer that `is_called_once`, or None.
        """
        tensor, _ = self.call(layer)
        node = self._makers.get(id(tensor))
        if node is None or not self.is_called_once(node.operation) or not self._is_private(tensor):
            return None
        return node.operation

    def after(self, layer: keras.layers.Layer) -> keras.layers.Layer | None:
        """Return the layer that uses a layer's output, if it is the only one.

        Args:
            layer: `is_called_once`.

        Returns:
            A layer that `is_called_once`, or None.
        """
        _, tensor = self.call(layer)
        if not self._is_private(tensor):
            return None
        (node,) = self._users[id(tensor)]
        is_input = self.is_called_once(node.operation) and self.call(node.operation)[0] is tensor
        return node.operation if is_input else None

    def _is_private(self, tensor: keras.KerasTensor) -> bool:
        return id(tensor) not in self._outputs and len(self._users.get(id(tensor), [])) == 1
