"""Inside `fit`, where the batch is unknown, a step has the operations of the chosen way."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnzoo.layers import BatchNormalization


def fit(layer, shape, batch=16, jit_compile=False, masked=False, batches=3):
    """Fit a model of one layer on uneven batches; return the model and the data set."""
    random = np.random.default_rng(0)
    x = random.normal(2.0, 3.0, (batch * batches - batch // 2, *shape)).astype("float32")
    inputs = keras.Input(shape)
    hidden = keras.layers.Masking(mask_value=99.0)(inputs) if masked else inputs
    model = keras.Model(inputs, layer(hidden))
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=jit_compile)
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros_like(x))).batch(batch)
    assert data.element_spec[0].shape[0] is None
    model.fit(data, epochs=1, shuffle=False, verbose=0)
    return model, data


def step_of(model, data):
    """Return the graph of a training step: its operations, and the functions XLA compiles."""
    # What `fit` calls is a plain function around this one.
    step = inspect.getclosurevars(model.train_function).nonlocals["multi_step_on_iterator"]
    graph = step.get_concrete_function(iter(data)).graph.as_graph_def()
    functions = graph.library.function
    nodes = [*graph.node, *(node for function in functions for node in function.node_def)]
    compiled = {f.signature.name for f in functions if f.attr["_XlaMustCompile"].b}
    called = [
        node.attr["f"].func.name
        for node in nodes
        if "PartitionedCall" in node.op and node.attr["f"].func.name in compiled
    ]
    return {node.op for node in nodes}, called


FUSED = {"FusedBatchNormV3", "FusedBatchNormGradV3"}
CASES = {
    # the layer's arguments, one example, the implementation
    "images": ({}, (16, 16, 32), "fused"),
    "matrix": ({}, (4096,), "fused"),
    "small": ({}, (64,), "reference"),
    "three_channels": ({}, (32, 32, 3), "reference"),
    "channels_first": ({"axis": 1}, (4, 16, 16), "reference"),
    "ghosts": ({"virtual_batch_size": 4}, (16, 16, 32), "reference"),
    "synchronized": ({"synchronized": True}, (16, 16, 32), "reference"),
    "renorm": ({"renorm": True}, (16, 16, 32), "fused"),
    "cumulative": ({"momentum": None}, (16, 16, 32), "fused"),
    "told_reference": ({"implementation": "reference"}, (16, 16, 32), "reference"),
    "told_fused": ({"implementation": "fused"}, (6, 5), "fused"),
    "told_xla": ({"implementation": "xla"}, (4, 4, 8), "xla"),
}


@pytest.mark.parametrize("name", CASES)
def test_fit_takes_the_way_that_the_layer_names(name):
    arguments, shape, implementation = CASES[name]
    layer = BatchNormalization(**arguments)
    assert layer.implementation_for(keras.Input(shape)).implementation == implementation
    names, compiled = step_of(*fit(layer, shape))
    # Renorm's first layer has no weight before its corrections, so nobody asks for that gradient.
    expected = {"FusedBatchNormV3"} if name == "renorm" else FUSED
    assert names & FUSED == (expected if implementation == "fused" else set())
    assert bool(compiled) == (implementation == "xla")
    assert all(np.isfinite(weight.numpy()).all() for weight in layer.weights)


def test_a_mask_in_fit_takes_the_plain_way():
    layer = BatchNormalization()
    names, compiled = step_of(*fit(layer, (64, 128), masked=True))
    assert not names & FUSED
    assert not compiled


@pytest.mark.parametrize("implementation", ["auto", "reference", "xla"])
def test_fit_that_xla_compiles_holds_neither_the_kernel_nor_a_second_compilation(implementation):
    layer = BatchNormalization(implementation=implementation)
    names, compiled = step_of(*fit(layer, (16, 16, 32), jit_compile=True))
    assert not names & FUSED
    # The step itself, and nothing within it.
    assert len(set(compiled)) <= 1


def test_fit_of_the_fused_kernel_under_xla_is_an_error():
    layer = BatchNormalization(implementation="fused")
    with pytest.raises(ValueError, match="XLA compiles this call"):
        fit(layer, (4, 4, 8), jit_compile=True)


@pytest.mark.parametrize("name", ["images", "matrix", "three_channels", "told_xla", "told_fused"])
def test_fit_learns_the_same_by_every_way(name):
    arguments, shape, *_ = CASES[name]
    weights = []
    for options in (arguments, {"implementation": "reference"}):
        model, _ = fit(BatchNormalization(momentum=0.5, **options), shape, batch=128, batches=1)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)  # float32 sums


@pytest.mark.parametrize("implementation", ["auto", "fused", "reference", "xla"])
def test_inference_in_an_export_takes_one_pass_of_the_kernel_or_plain_operations(
    implementation, tmp_path
):
    inputs = keras.Input((16, 16, 32))
    model = keras.Model(inputs, BatchNormalization(implementation=implementation)(inputs))
    model.export(tmp_path / "model", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "model"))
    graph = served.signatures["serving_default"].graph.as_graph_def()
    functions = graph.library.function
    names = {node.op for node in graph.node}
    names |= {node.op for function in functions for node in function.node_def}
    assert ("FusedBatchNormV3" in names) == (implementation in ("auto", "fused"))
    x = np.random.default_rng(0).normal(size=(3, 16, 16, 32)).astype("float32")
    np.testing.assert_allclose(served.serve(x), x / np.sqrt(1.001), rtol=1e-6, atol=1e-6)
