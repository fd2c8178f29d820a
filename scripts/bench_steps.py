"""One call of what is measured, on each library: forward, training step or inference of a layer.

A training step is forward, backward with respect to input, gamma and beta, and the moving update.
Small shapes are measured as a chain of layers with ReLU between, so that the call itself does not
hide the layer.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def arrays(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Make an input and an upstream gradient."""
    random = np.random.default_rng(0)
    return tuple(random.normal(size=shape).astype("float32") for _ in range(2))


def tensorflow_step(make: Callable, case) -> Callable[[], None]:
    """Compile a call for Keras 3 on TensorFlow, and for Keras 2."""
    import keras
    import tensorflow as tf

    layers = [make(axis=case.axis) for _ in range(case.chain)]
    weights = []
    for layer in layers:
        layer.build((None, *case.shape[1:]))
        weights += layer.trainable_variables
    weights = [getattr(w, "value", w) if isinstance(w, keras.Variable) else w for w in weights]
    x, upstream = (tf.cast(array, case.dtype) for array in arrays(case.shape))
    batch = None if case.batch_unknown else case.shape[0]
    spec = tf.TensorSpec((batch, *case.shape[1:]), case.dtype)

    def forward(x):
        for layer in layers[:-1]:
            x = tf.nn.relu(layer(x, training=case.training))
        return layers[-1](x, training=case.training)

    def train(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = forward(x)
        return tape.gradient(outputs, [x, *weights], upstream)

    options = {"jit_compile": case.xla, "autograph": False}
    if case.kind == "train":
        compiled = tf.function(train, input_signature=[spec, spec], **options)
        # Reading one small result waits for the whole step.
        return lambda: compiled(x, upstream)[-1].numpy()
    compiled = tf.function(forward, input_signature=[spec], **options)
    read = (slice(0, 1),) * len(case.shape)
    return lambda: tf.cast(compiled(x)[read], "float32").numpy()


def memory_copy(size: int) -> Callable[[], None]:
    """Copy so many bytes once, by as many threads as there are cores: two of the eight passes."""
    array = np.ones(size // 4, "float32")
    cores = len(os.sched_getaffinity(0))
    sources, targets = np.array_split(array, cores), np.array_split(np.empty_like(array), cores)
    pool = ThreadPoolExecutor(cores)
    return lambda: list(pool.map(np.copyto, targets, sources))


def jax_step(make: Callable, case) -> Callable[[], None]:
    """Compile a call for Keras 3 on JAX."""
    import jax

    layers = [make(axis=case.axis, dtype=case.dtype) for _ in range(case.chain)]
    for layer in layers:
        layer.build((None, *case.shape[1:]))
    learned = [[v.value for v in layer.trainable_variables] for layer in layers]
    moving = [[v.value for v in layer.non_trainable_variables] for layer in layers]
    x, upstream = (jax.numpy.asarray(array, case.dtype) for array in arrays(case.shape))

    def forward(x, learned, moving):
        moved = []
        for index, layer in enumerate(layers):
            x = jax.nn.relu(x) if index else x
            given = learned[index], moving[index], x
            x, state = layer.stateless_call(*given, training=case.training)
            moved.append(state)
        return x, moved

    def train(x, learned, moving, upstream):
        _, pull, moved = jax.vjp(
            lambda x, learned: forward(x, learned, moving), x, learned, has_aux=True
        )
        return pull(upstream), moved

    if case.kind == "train":
        compiled, given = jax.jit(train), (x, learned, moving, upstream)
    else:
        compiled, given = jax.jit(forward), (x, learned, moving)
    return lambda: jax.block_until_ready(compiled(*given))


def jax_copy(case) -> Callable[[], None]:
    """Read and write the activation once: two of the eight passes."""
    import jax

    x = jax.numpy.asarray(arrays(case.shape)[0], case.dtype)
    negate = jax.jit(lambda x: -x)
    return lambda: jax.block_until_ready(negate(x))


def torch_step(case) -> Callable[[], None]:
    """Make a call for PyTorch, eager, in its channels-last memory format where the case is."""
    import torch

    kinds = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d"}
    channels = case.shape[case.axis]
    kind = getattr(torch.nn, kinds[len(case.shape)])
    layers = [kind(channels, eps=1e-3, momentum=0.01) for _ in range(case.chain)]
    dtype = getattr(torch, case.dtype)
    last = case.axis % len(case.shape) == len(case.shape) - 1
    x, upstream = (torch.from_numpy(array).to(dtype) for array in arrays(case.shape))
    if last and x.ndim > 2:
        # The same memory, seen as PyTorch names the dimensions.
        x, upstream = (tensor.movedim(-1, 1) for tensor in (x, upstream))
    x.requires_grad_(case.kind == "train")
    for layer in layers:
        layer.train(case.training)

    def forward():
        y = x
        for index, layer in enumerate(layers):
            y = layer(torch.relu(y) if index else y)
        return y

    def train():
        x.grad = None
        forward().backward(upstream)

    def infer():
        with torch.no_grad():
            forward()

    return train if case.kind == "train" else infer
