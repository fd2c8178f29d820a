"""A functional model as a graph of layers: what feeds a layer, what it feeds, and a copy of it."""

from collections.abc import Callable
from pathlib import Path

import keras

from bnzoo.errors import InputError, first_sentence
from bnzoo.versions import private

NO_NODES = "Batch normalization is replaced by MultiplyAdd, and merged into no other layer."


class Skipped(keras.layers.Identity):
    """Stands for a layer that a copy leaves out: never called, it is not in the new model."""


def is_graph(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer is a model whose layers are connected as a graph."""
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def check_model(model: keras.Model) -> None:
    """Refuse what is no Keras model, such as the path of one.

    Raises:
        InputError: says so.
    """
    if not isinstance(model, keras.Model):
        received = repr(model) if isinstance(model, str | Path) else type(model).__name__
        raise InputError(
            f"Received {received}, expected a Keras model. "
            "Load a saved one first: bnzoo.load_model(path)."
        )


def as_functional(model: keras.Model, advice: str) -> keras.Model:
    """Return a plain, uncompiled functional model over the same layers.

    Args:
        model: functional or Sequential, built.
        advice: what to do with another one.

    Raises:
        InputError: it is another one.
    """
    check_model(model)
    if not is_graph(model):
        raise InputError(
            f"model {model.name!r}: expected a built functional or Sequential model, got "
            f"{type(model).__name__}, whose layers are not connected as a graph. {advice}"
        )
    if isinstance(model, keras.Sequential):
        return keras.Model(*model.inputs, *model.outputs, name=model.name)  # one each
    return keras.Model(model.input, model.output, name=model.name)


def copy_graph(model: keras.Model, copy: Callable, call: Callable) -> keras.Model:
    """Return a new functional model whose layers are copies, connected as their originals are.

    Args:
        model: functional.
        copy: takes a layer, or an operation such as +, and returns what stands for it.
        call: takes what stands for a layer and its call's arguments, and returns the outputs.

    Raises:
        InputError: a copy cannot be called as its original was.
    """
    try:
        return keras.models.clone_model(model, clone_function=copy, call_function=call)
    except InputError:
        raise
    except Exception as error:  # whatever a user's layer raises
        raise InputError(
            f"model {model.name!r}: a copy of its layers could not be called as they were: "
            f"{first_sentence(error)}. Look at the get_config of its own layers, or export with "
            "fold=False (--no-fold)."
        ) from error


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
