"""Where a batch normalization layer stands in a model: what feeds it, and what it feeds."""

import dataclasses

import keras

from bnzoo.surgery.affine import CannotMerge
from bnzoo.surgery.graph import Graph, as_functional, is_graph
from bnzoo.surgery.linear import channel_axis, is_linear

RELUS = ("relu", "relu6")
# Layers that leave the scale of an output to what is before them.
PASSING = ("Activation", "Softmax", "ReLU", "Flatten", "Reshape", "Dropout", "Identity")


@dataclasses.dataclass(frozen=True)
class Place:
    """Of a layer that is called once in a functional or Sequential model, nested ones too.

    Attributes:
        bias_of: name of the layer before it that adds a bias, for nothing else to use; or None.
        feeds_relu: whether a ReLU is all that uses its output.
        is_first: whether it normalizes inputs of the model, with nothing that has weights between;
            None where nothing is known.
        is_last: whether nothing with weights is between it and an output of the model.
    """

    bias_of: str | None = None
    feeds_relu: bool = False
    is_first: bool | None = None
    is_last: bool = False


def places(model: keras.Model) -> dict[int, Place]:
    """Return the places of batch normalization layers by their ids; those not known are left out.

    Args:
        model: of any kind; of a subclassed one, and in other layers, nothing is known.
    """
    if not is_graph(model):
        return {}
    functional = as_functional(model, "")
    graph, found = Graph(functional), {}
    for layer in graph.layers():
        try:
            inputs, output = graph.call(layer)
        except CannotMerge:  # it is called twice, for example
            continue
        is_first = not any(map(graph.has_weights_before, keras.tree.flatten(inputs)))
        is_last = _reaches_output(graph, output, functional.outputs)
        if is_graph(layer):
            for key, place in places(layer).items():
                found[key] = dataclasses.replace(
                    place,
                    is_first=place.is_first and is_first,
                    is_last=place.is_last and is_last,
                )
        elif isinstance(layer, keras.layers.BatchNormalization):
            users = [operation for operation, _ in graph.users(output)]
            is_only = not any(output is one for one in functional.outputs)
            feeds_relu = is_only and bool(users) and all(map(_is_relu, users))
            found[id(layer)] = Place(_bias_before(graph, layer), feeds_relu, is_first, is_last)
    return found


def _bias_before(graph: Graph, layer: keras.layers.Layer) -> str | None:
    try:
        before = graph.before(layer)
    except CannotMerge:
        return None
    if not is_linear(before) or not getattr(before, "use_bias", False):
        return None
    ndim = len(graph.call(layer)[0].shape)
    if channel_axis(before, ndim) != int(layer.axis) % ndim:
        return None
    is_linear_still = getattr(before, "activation", None) in (None, keras.activations.linear)
    return before.name if is_linear_still else None


def _is_relu(operation: keras.Operation) -> bool:
    if isinstance(operation, keras.layers.ReLU):
        return operation.negative_slope == 0 and operation.threshold == 0
    if isinstance(operation, keras.layers.Activation):
        return getattr(operation.activation, "__name__", "") in RELUS
    return type(operation).__name__.lower() in RELUS  # keras.ops.relu


def _reaches_output(graph: Graph, tensor: keras.KerasTensor, outputs: list) -> bool:
    if any(tensor is one for one in outputs):
        return True
    return any(
        type(operation).__name__ in PASSING and _reaches_output(graph, made[0], outputs)
        for operation, made in graph.users(tensor)
    )
