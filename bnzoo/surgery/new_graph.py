"""A new functional model with something else, or nothing, in the place of batch normalization."""

import contextlib
from collections.abc import Callable, Iterator

import keras

from bnzoo.errors import InputError
from bnzoo.layers import arguments
from bnzoo.layers.finding import batch_norm_layers
from bnzoo.layers.groups import fitting_groups
from bnzoo.surgery.affine import CannotMerge, is_batch_norm
from bnzoo.surgery.copying import copy_state, new_layer
from bnzoo.surgery.graph import Graph, Skipped, as_functional, copy_graph, is_graph
from bnzoo.surgery.linear import is_linear

ADVICE = "Change the code that makes its layers, or keep batch normalization: to='bnzoo'."


def without_batch_norm(model: keras.Model) -> keras.Model:
    """Return a new functional model that has nothing in the place of batch normalization.

    A linear layer without a bias that feeds batch normalization only gains one, as it is in a new
    layer (zeros, unless its configuration says otherwise), for the shift that is gone.

    Args:
        model: functional or Sequential, built. It is left as it is.

    Raises:
        InputError: as `fold_batch_norm`, or batch normalization is inside another layer.
    """
    return _renewed(model, lambda layer: Skipped(name=layer.name), with_bias=True)


def with_group_norm(
    model: keras.Model, groups: int = 32, epsilon: float | None = None
) -> keras.Model:
    """Return a new functional model with group normalization in the place of batch normalization.

    Gamma and beta with their values and options, the axis and epsilon stay.

    Args:
        model: functional or Sequential, built. It is left as it is.
        groups: into which the channels of an example are divided, at least 1, as far as they can
            be (`fitting_groups`). The default is that of Wu and He 2018, arXiv 1803.08494.
        epsilon: added to the variance; None is that of each layer.

    Raises:
        InputError: as `without_batch_norm`, or an argument is out of its range.
    """
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise InputError(
            f"Received groups={groups!r}, expected an integer of at least 1. "
            "It is the number of groups of channels: try 32."
        )
    try:
        changed = {} if epsilon is None else {"epsilon": arguments.check_epsilon(epsilon)}
    except ValueError as error:
        raise InputError(str(error)) from None
    known = keras.layers.GroupNormalization(name="known").get_config()

    def group_norm(layer: keras.layers.Layer) -> keras.layers.Layer:
        shape = layer.get_build_config()["input_shape"]
        config = {name: value for name, value in layer.get_config().items() if name in known}
        config["groups"] = fitting_groups(groups, shape, layer.axis)
        return keras.layers.GroupNormalization(**config | changed)

    return _renewed(model, group_norm, with_bias=False)


def _renewed(model: keras.Model, substitute: Callable, with_bias: bool) -> keras.Model:
    """Copy a model, but for its batch normalization layers."""
    functional = as_functional(model, ADVICE)
    pairs = []
    biased = {id(layer) for layer in _linear_before(functional)} if with_bias else set()

    def copy(layer):
        if not isinstance(layer, keras.layers.Layer):
            return layer  # an operation such as +, which has no weights
        if is_graph(layer):
            return _renewed(layer, substitute, with_bias)
        if is_batch_norm(layer):
            new = substitute(layer)
        elif id(layer) in biased:
            new = type(layer).from_config({**layer.get_config(), "use_bias": True})
        else:
            new = new_layer(layer)
        pairs.append((layer, new))
        return new

    def call(layer, *args, **kwargs):
        if not isinstance(layer, Skipped | keras.layers.GroupNormalization):
            return layer(*args, **kwargs)
        inputs = args[0] if args else kwargs["inputs"]  # they take no mask
        return inputs if isinstance(layer, Skipped) else layer(inputs)

    renewed = copy_graph(functional, copy, call)
    for layer, new in pairs:
        if type(new) is type(layer) and id(layer) not in biased:
            copy_state(layer, new)
        else:  # the weights that both have come first
            for one, other in zip(layer.weights, new.weights, strict=False):
                other.assign(one.value)
    _refuse_leftovers(model, renewed)
    return renewed


def _linear_before(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield the linear layers that feed batch normalization only."""
    graph = Graph(model)
    for layer in filter(is_batch_norm, graph.layers()):
        with contextlib.suppress(CannotMerge):
            source = graph.before(layer)
            if is_linear(source):
                yield source


def _refuse_leftovers(model: keras.Model, renewed: keras.Model) -> None:
    for layer in batch_norm_layers(renewed):
        raise InputError(
            f"model {model.name!r}: expected each batch normalization as a layer of the graph, got "
            f"{layer.name!r}, a {type(layer).__name__} that is inside another layer or of a class "
            f"of its own. {ADVICE}"
        )
