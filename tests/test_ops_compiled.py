"""The compiled formula: what XLA gets to see, and how often it has to compile."""

import re

import numpy as np
import pytest
import tensorflow as tf
from calls import normalize_batch

SHAPES = {"images": (16, 8, 8, 6), "matrix": (64, 8), "channels_first": (8, 6, 5, 5)}


def forward(x, axis):
    return normalize_batch(x, axis=axis, epsilon=1e-3)[:3]


def backward(x, axis):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(forward(x, axis)[0] ** 3)
    return tape.gradient(loss, x)


def hlo_of(function, shape, axis):
    """Return the HLO text before XLA's own passes."""
    step = tf.function(lambda x: function(x, axis), jit_compile=True)
    return step.experimental_get_compiler_ir(tf.ones(shape))(stage="hlo")


def instructions(hlo):
    """Map the name of each instruction to its operation and operands."""
    found = {}
    pattern = r"^\s*(?:ROOT )?%?([\w.-]+) = \S+ ([\w-]+)\(([^)]*)\)"
    for name, operation, operands in re.findall(pattern, hlo, re.M):
        found[name] = operation, re.findall(r"%([\w.-]+)", operands)
    return found


def squares(found):
    """Yield the operand of each instruction that multiplies something with itself."""
    for operation, operands in found.values():
        if operation == "multiply" and len(operands) >= 2 and operands[-1] == operands[-2]:
            yield operands[-1]


PASSING = {"reshape", "transpose", "convert", "bitcast", "copy", "select", "broadcast", "slice"}


def comes_from_subtraction(name, found):
    """Look past what only moves numbers: is this a difference, or the tensor itself?"""
    operation, operands = found.get(name, ("parameter", []))
    if operation in PASSING:
        # A select's first operand is its condition.
        parts = operands[1:2] if operation == "select" else operands[:1]
        return all(comes_from_subtraction(part, found) for part in parts)
    return operation == "subtract"


@pytest.mark.parametrize("function", [forward, backward])
@pytest.mark.parametrize("layout", SHAPES)
def test_no_batch_norm_instruction_is_left_to_xla(layout, function):
    hlo = hlo_of(function, SHAPES[layout], 1 if layout == "channels_first" else -1)
    assert "f32" in hlo
    assert "batch-norm" not in hlo


@pytest.mark.parametrize("layout", SHAPES)
def test_only_differences_from_a_shift_are_squared(layout):
    found = instructions(hlo_of(forward, SHAPES[layout], 1 if layout == "channels_first" else -1))
    squared = list(squares(found))
    large = [name for name in squared if comes_from_subtraction(name, found)]
    assert large, "no square was found in the HLO"
    for name in squared:
        # Else a number per channel, such as the rest of the mean.
        raw = found.get(name, ("parameter", []))[0]
        assert name in large or raw in ("divide", "multiply", "add", "rsqrt"), (name, raw)


def test_the_check_on_squares_finds_a_raw_one():
    def raw(x, axis):
        return tf.reduce_mean(x * x, 0) - tf.square(tf.reduce_mean(x, 0))

    found = instructions(hlo_of(raw, SHAPES["matrix"], -1))
    assert not all(comes_from_subtraction(name, found) for name in squares(found))


def test_the_fused_kernel_inside_xla_would_be_noticed():
    def fused(x, axis):
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=tf.ones(6), offset=tf.zeros(6), mean=[], variance=[]
        )[0]

    assert "batch-norm" in hlo_of(fused, SHAPES["images"], -1)


def calls(graph_def):
    """Count the calls of functions that XLA must compile, in a graph and its functions."""
    functions = {function.signature.name: function for function in graph_def.library.function}
    compiled_functions = {
        name for name, function in functions.items() if function.attr["_XlaMustCompile"].b
    }
    nodes = [*graph_def.node]
    for name, function in functions.items():
        if name not in compiled_functions:
            nodes.extend(function.node_def)
    called = [node.attr["f"].func.name for node in nodes if "PartitionedCall" in node.op]
    return [name for name in called if name in compiled_functions]


def test_one_computation_forward_and_one_backward_in_a_graph_that_is_not_compiled():
    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = normalize_batch(x, implementation="xla")[0]
            loss = tf.reduce_sum(outputs**3)
        return outputs, tape.gradient(loss, x)

    graph = step.get_concrete_function(tf.TensorSpec((16, 8, 8, 6))).graph.as_graph_def()
    assert len(calls(graph)) == 2
    only_forward = tf.function(lambda x: normalize_batch(x, implementation="xla")[0])
    graph = only_forward.get_concrete_function(tf.TensorSpec((16, 8, 8, 6))).graph.as_graph_def()
    assert len(calls(graph)) == 1


def test_it_is_inlined_where_the_model_is_compiled():
    step = tf.function(lambda x: normalize_batch(x, implementation="xla")[0], jit_compile=True)
    graph = step.get_concrete_function(tf.TensorSpec((16, 8, 8, 6))).graph.as_graph_def()
    assert calls(graph) == []
    assert not any("PartitionedCall" in node.op for node in graph.node)


def test_layers_of_one_kind_share_what_was_compiled():
    @tf.function
    def step(x):
        for _ in range(3):
            x = normalize_batch(x, implementation="xla")[0]
        return x

    graph = step.get_concrete_function(tf.TensorSpec((16, 8, 8, 6))).graph.as_graph_def()
    assert len(calls(graph)) == 3
    assert len(set(calls(graph))) == 1


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_uneven_batches_are_right(mode):
    def step(x):
        return normalize_batch(x, implementation="xla")[:3]

    if mode == "graph":
        step = tf.function(step, input_signature=[tf.TensorSpec([None, None, 4])])
    random = np.random.default_rng(0)
    for batch, length in ((32, 80), (31, 80), (31, 75)):
        x = random.normal(size=(batch, length, 4)).astype("float32")
        outputs, mean, variance = step(tf.constant(x))
        np.testing.assert_allclose(mean, x.mean((0, 1)), atol=1e-6)
        np.testing.assert_allclose(variance, x.var((0, 1)), rtol=1e-5)
        np.testing.assert_allclose(
            outputs, (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-3), atol=1e-5
        )
