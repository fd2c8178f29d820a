"""Training steps to compile for a GPU: of one layer, and of a whole block of a residual network.

Keras' backend is chosen when it is imported: JAX or TensorFlow, one in a process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

import jax
import keras
from gpu_compiler import Compiler
from keras import layers, ops

import bnzoo

LAYERS = {"ours": bnzoo.BatchNormalization, "keras": layers.BatchNormalization}
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
# Kernel size of each convolution, and what divides the channels of x to give its filters.
BLOCKS = {"residual": ((3, 1), (3, 1)), "bottleneck": ((1, 4), (3, 4), (1, 1))}
RATE = 0.1  # of the update


@dataclass(frozen=True)
class Case:
    """One program.

    Attributes:
        kind: `"layer"`, or a key of `BLOCKS`.
        shape: of x.
        dtype: of x and y; weights are float32.
        relu: whether a ReLU follows; blocks have theirs.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    relu: bool = True

    @property
    def name(self) -> str:
        """What the table calls it."""
        shape = f"{'x'.join(map(str, self.shape))} {self.dtype}"
        if self.kind != "layer":
            return f"{self.kind} {shape}"
        return shape + " + ReLU" * self.relu


def program(framework: str, case: Case, contender: str, compiler: Compiler) -> str:
    """Return the compiled step: outputs, gradients and the new state.

    Args:
        framework: `"jax"` or `"tensorflow"`; Keras' backend.
        case: what to compile.
        contender: a key of `LAYERS`.
        compiler: for the device.
    """
    model = build(case, contender)
    variables = model.trainable_variables, model.non_trainable_variables
    weights, state = [[_shape(each) for each in group] for group in variables]
    x = jax.ShapeDtypeStruct(case.shape, case.dtype)
    step = {"jax": jax_step, "tensorflow": tensorflow_step}[framework](model, case)
    return compiler.compile(step, weights, state, x, x)


def build(case: Case, contender: str) -> layers.Layer:
    """Return the layer or block, with its weights."""
    policy = POLICIES[case.dtype]
    if case.kind == "layer":
        layer = LAYERS[contender](dtype=policy)
        layer.build(case.shape)
        return layer
    x = keras.Input(case.shape[1:], case.shape[0], dtype=case.dtype)
    outputs = x
    for number, (size, divisor) in enumerate(BLOCKS[case.kind]):
        if number:
            outputs = layers.ReLU(dtype=policy)(outputs)
        how = {"padding": "same", "use_bias": False, "dtype": policy}
        outputs = layers.Conv2D(case.shape[-1] // divisor, size, **how)(outputs)
        outputs = LAYERS[contender](dtype=policy)(outputs)
    outputs = layers.Add(dtype=policy)([outputs, x])
    return keras.Model(x, layers.ReLU(dtype=policy)(outputs))


def jax_step(model: layers.Layer, case: Case) -> Callable:
    """Return a function of weights, state, x and dy that trains once, in JAX."""

    def step(weights, state, x, upstream):
        def forward(weights, x):
            outputs, updated = model.stateless_call(weights, state, x, training=True)
            return _ending(outputs, case), updated

        outputs, backward, updated = jax.vjp(forward, weights, x, has_aux=True)
        # The rest of a network is in between; without it, the sums of dy join the forward pass.
        outputs, upstream = jax.lax.optimization_barrier((outputs, upstream))
        gradients, down = backward(upstream)
        return outputs, updated, _weights(weights, gradients, case), down

    return step


def tensorflow_step(model: layers.Layer, case: Case) -> Callable:
    """Return the same in TensorFlow, as a function of JAX: its HLO under JAX's compiler."""
    import tensorflow as tf
    from jax.experimental import jax2tf
    from tensorflow.compiler.tf2xla.ops import gen_xla_ops  # `tf.raw_ops` lacks the barrier

    @tf.function(jit_compile=True, autograph=False)
    def step(weights, state, x, upstream):
        with tf.GradientTape() as tape:
            tape.watch([weights, x])
            outputs, updated = model.stateless_call(weights, state, x, training=True)
            outputs = _ending(outputs, case)
        ended, upstream = gen_xla_ops.xla_optimization_barrier([outputs, upstream])
        gradients, down = tape.gradient(outputs, [weights, x], upstream)
        return ended, updated, _weights(weights, gradients, case), down

    call = jax2tf.call_tf(step)

    def on_gpu(*arguments):
        with patch("bnzoo.ops.kernels.on_gpu", lambda: True):
            return call(*arguments)

    return on_gpu


def _ending(outputs, case):
    return ops.relu(outputs) if case.kind == "layer" and case.relu else outputs


def _weights(weights, gradients, case):
    """Return the gradients of a layer, and of a block the weights that they lead to."""
    if case.kind == "layer":
        return gradients
    return [old - RATE * gradient for old, gradient in zip(weights, gradients, strict=True)]


def _shape(variable) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(variable.shape), variable.dtype)
