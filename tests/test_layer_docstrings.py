"""The examples in the docstrings of the layer and its maths are executed."""

import doctest
import importlib
import inspect
import pkgutil
import re

import numpy as np
import pytest
import tensorflow as tf
from batch_norm_reference import EPSILON, Problem

import bnzoo.layers
import bnzoo.ops
import bnzoo.surgery
from bnzoo.layers import BatchNormalization
from bnzoo.ops import Settings, plain
from bnzoo.ops.layouts import Layout

MODULES = [
    module.name
    for package in (bnzoo.ops, bnzoo.layers, bnzoo.surgery)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name):
    if name == "bnzoo.ops.plain_jax":
        pytest.importorskip("jax")
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("package", [bnzoo.ops, bnzoo.layers])
def test_everything_public_shows_an_example(package):
    # Renorm's three inputs from two statistics are clearer in its tests than in an example.
    exempt = {"renorm_corrections", "renorm_moving_variance", "renorm_stddev", "scale_and_shift"}
    exempt |= {"Choice", "Settings", "forget_functions", "has_statistics"}
    public = {name: getattr(package, name) for name in package.__all__}
    if "moving" in public:
        found = inspect.getmembers(public.pop("moving"), inspect.isfunction)
        public |= {name: item for name, item in found if not name.startswith("_")}
    missing = {name for name, item in public.items() if ">>>" not in (item.__doc__ or "")}
    assert missing <= exempt, f"no example: {sorted(missing - exempt)}"
    assert exempt & set(public) <= missing, "an exemption is stale"


def formulas(item):
    """Collect what a docstring assigns, between backticks and then in lines of their own."""
    text = inspect.getdoc(item)
    lines = re.findall(r"`(\w+ = [^`]+)`", text) + re.findall(r"^ {4}(\w+ = .+)$", text, re.M)
    return [line for line in lines if not line.endswith("(")]


def evaluate(item, **values):
    """Run a docstring's formulas in float64 NumPy, where `sum` adds up the samples."""
    names = {"sum": lambda array: array.sum(0), "rsqrt": lambda array: array**-0.5, **values}
    for line in formulas(item):
        exec(line, names)
    return names


def test_the_formulas_of_the_layer_are_what_it_computes():
    x, gamma, beta = Problem((6, 3)).arrays
    layer = BatchNormalization(momentum=0.75, epsilon=EPSILON, dtype="float64")
    layer.build(x.shape)
    layer.set_weights([gamma, beta, beta + 1, gamma + 1])
    start = {"moving_mean": beta + 1, "moving_variance": gamma + 1, "momentum": 0.75}
    outputs = layer(x, training=True)
    batch = {"x": x, "mean": x.mean(0), "variance": x.var(0), "gamma": gamma, "beta": beta}
    written = evaluate(BatchNormalization, **batch, **start, epsilon=EPSILON)
    np.testing.assert_allclose(outputs, written["y"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(layer.moving_mean, written["moving_mean"], rtol=1e-12)
    np.testing.assert_allclose(layer.moving_variance, written["moving_variance"], rtol=1e-12)


def test_the_formulas_of_the_gradient_are_what_it_computes():
    problem = Problem((6, 3))
    x, gamma, beta = problem.arrays
    dy, grad_mean, grad_variance = (tf.constant(factor) for factor in problem.factors)
    tensors = [tf.constant(array) for array in (x, gamma, beta)]
    settings = Settings(epsilon=EPSILON, dtype="float64")
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        results = plain.plain_batch_norm(settings, Layout("native", 2, 1, 3), *tensors)[:3]
    gradients = tape.gradient(results, tensors, [dy, grad_mean, grad_variance])
    grads = {"dy": dy, "grad_mean": grad_mean, "grad_variance": grad_variance}
    grads = {name: value.numpy() for name, value in grads.items()}
    batch = {"x": x, "mean": x.mean(0), "variance": x.var(0), "gamma": gamma, "n": len(x)}
    written = evaluate(plain.plain_batch_norm, **grads, **batch, epsilon=EPSILON)
    for gradient, name in zip(gradients, ("dx", "grad_gamma", "grad_beta"), strict=True):
        np.testing.assert_allclose(gradient, written[name], rtol=1e-9, atol=1e-12)
