"""A functional model as a graph of layers: what feeds a layer, what it feeds, and a copy of it."""

from collections.abc import Callable
from pathlib import Path

import keras

from bnzoo.errors import InputError, first_sentence
from bnzoo.surgery.affine import CannotMerge, named
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
        self._name = f"model {model.name!r}"
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

    def call(self, layer: keras.layers.Layer) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return input and output of a layer that is used once, with one tensor in and one out.

        Raises:
            CannotMerge: it is not.
        """
        nodes = self._calls.get(id(layer), [])
        if not nodes:
            raise CannotMerge(f"this version of Keras does not tell what feeds {layer.name!r}")
        if len(nodes) > 1:
            raise CannotMerge(f"{named(layer)} is called more than once")
        (node,) = nodes
        if (len(node.outputs), len(node.arguments.args)) != (1, 1):
            raise CannotMerge(f"{named(layer)} takes or returns more than one value")
        return node.arguments.args[0], node.outputs[0]

    def users(self, tensor: keras.KerasTensor) -> list[tuple[keras.Operation, list]]:
        """Return what a tensor is handed to, layers and operations, each with what it makes."""
        return [(node.operation, node.outputs) for node in self._users.get(id(tensor), [])]

    def has_weights_before(self, tensor: keras.KerasTensor) -> bool:
        """Tell whether anything with weights is between the inputs of the model and a tensor."""
        node = self._makers.get(id(tensor))
        if node is None:
            return False
        has_some = bool(getattr(node.operation, "weights", ()))
        return has_some or any(map(self.has_weights_before, node.input_tensors))

    def maker(self, layer: keras.layers.Layer) -> keras.Operation:
        """Return what makes a layer's input.

        Raises:
            CannotMerge: it is an input of the model, or the layer has no `call`.
        """
        node = self._makers.get(id(self.call(layer)[0]))
        if node is None:
            raise CannotMerge(f"{layer.name!r} is fed by an input of {self._name}")
        return node.operation

    def before(self, layer: keras.layers.Layer) -> keras.Operation:
        """Return what makes a layer's input, if nothing else uses what it makes.

        Raises:
            CannotMerge: something else does, or one of the two has no `call`.
        """
        maker = self.maker(layer)
        self._only_user(maker)
        return maker

    def after(self, layer: keras.layers.Layer) -> keras.Operation:
        """Return what uses a layer's output, if it is the only one and has no other input.

        Raises:
            CannotMerge: it is not, or one of the two has no `call`.
        """
        user = self._only_user(layer)
        if self.call(user)[0] is not self.call(layer)[1]:
            raise CannotMerge(f"{named(user)} behind it has other inputs too")
        return user

    def _only_user(self, layer: keras.Operation) -> keras.Operation:
        _, tensor = self.call(layer)
        if id(tensor) in self._outputs:
            raise CannotMerge(f"the output of {layer.name!r} is an output of {self._name}")
        users = [user for user, _ in self.users(tensor)]
        if len(users) != 1:
            names = [repr(user.name) for user in users]
            if len(names) > 3:
                names[2:] = [f"{len(names) - 2} others"]
            raise CannotMerge(f"the output of {layer.name!r} is used by {' and '.join(names)}")
        return users[0]
