"""The formula as one XLA computation, also where the model around it is not compiled.

XLA compiles anew for every shape. Where sizes are unknown when the call is traced, as the batch is
in `fit`, an input is padded up to the next of eight sizes per doubling, and the padding is masked
out: an uneven last batch costs one compilation, and sequences of every length up to 4,096 at most
80. Sizes up to 16, and multiples of an eighth of the power of two below, are not padded.
"""

from dataclasses import replace
from functools import cache, partial

import keras
from keras import ops

from bnzoo.ops import formula
from bnzoo.ops.shapes import statistics_dtype


@cache
def compiled(function, plan):
    """Compile a pass of `bnzoo.ops.formula` for a plan; the same plan finds the same function.

    Args:
        function: takes the plan, then tensors or None.
        plan: a `formula.Plan`.

    Returns:
        A function of the remaining arguments.
    """
    bound = partial(function, plan)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(bound)
    import tensorflow as tf

    return tf.function(bound, jit_compile=True, autograph=False, reduce_retracing=True)


def forward(plan, inputs, gamma=None, beta=None, weights=None):
    """Do what `formula.forward` does, compiled."""
    padding = _padding(inputs, plan.view.axis)
    run = partial(formula.forward, plan, gamma=gamma, beta=beta, run=compiled)
    if padding is None:
        return run(inputs, weights=weights)

    def flat(results, saved):
        outputs, mean, variance, count = results
        return outputs, mean, variance, ops.broadcast_to(count, ops.shape(mean)), *saved[1:4]

    def pad():
        results, saved = run(padding.pad(inputs), weights=padding.mask(inputs, weights))
        return flat((padding.cut(results[0], inputs), *results[1:]), saved)

    def exact():
        return flat(*run(inputs, weights=weights))

    *results, shift, rest, inverse = padding.choose(plan, exact, pad)
    return tuple(results), formula.Saved(results[-1], shift, rest, inverse, None)


def backward(plan, inputs, saved, upstream, gamma=None, beta=None, weights=None):
    """Do what `formula.backward` does, compiled."""
    padding = _padding(inputs, plan.view.axis)
    run = partial(formula.backward, plan, gamma=gamma, run=compiled)
    if padding is None:
        return run(inputs, saved, upstream, weights=weights)

    def pad():
        padded = padding.pad(inputs), saved, (padding.pad(upstream[0]), *upstream[1:])
        d_inputs, d_gamma, d_beta = run(*padded, weights=padding.mask(inputs, weights))
        return padding.cut(d_inputs, inputs), d_gamma, d_beta

    def exact():
        return run(inputs, saved, upstream, weights=weights)

    return padding.choose(plan, exact, pad)


blank = formula.blank


class _Padding:
    """The unknown sizes of an input, and the larger ones that XLA gets to see instead."""

    def __init__(self, inputs, axes, channel_axis):
        import tensorflow as tf

        self.axes, self.ndim, self.channel_axis = axes, inputs.ndim, channel_axis
        shape = ops.shape(inputs)
        self.sizes = tf.stack([shape[axis] for axis in axes])
        self.targets = padded_size(self.sizes)

    def choose(self, plan, exact, pad):
        import tensorflow as tf

        # Replicas whose sizes differ must not part before an exchange, so they all pad.
        if plan.synchronized:
            return pad()
        return tf.cond(tf.reduce_all(tf.equal(self.sizes, self.targets)), exact, pad)

    def pad(self, tensor):
        import tensorflow as tf

        missing = tf.scatter_nd(
            [[axis] for axis in self.axes], self.targets - self.sizes, [self.ndim]
        )
        padded = tf.pad(tensor, tf.stack([tf.zeros_like(missing), missing], 1))
        known = [None if axis in self.axes else size for axis, size in enumerate(tensor.shape)]
        return tf.ensure_shape(padded, known)

    def cut(self, tensor, like):
        import tensorflow as tf

        return tf.ensure_shape(tf.slice(tensor, [0] * self.ndim, tf.shape(like)), like.shape)

    def mask(self, inputs, weights):
        import tensorflow as tf

        if weights is None:
            shape = list(ops.shape(inputs))
            shape[self.channel_axis] = 1
            weights = tf.ones(shape, statistics_dtype(inputs.dtype))
        return self.pad(weights)


def _padding(inputs, channel_axis):
    """Find the sizes to pad: those that are unknown."""
    if keras.backend.backend() != "tensorflow":
        return None
    channel_axis %= inputs.ndim
    shape = _shape_to_compile(inputs.shape, channel_axis)
    axes = [axis for axis, size in enumerate(shape) if size is None]
    return _Padding(inputs, axes, channel_axis) if axes else None


def call_to_compile(call):
    """Return a call with the sizes that the compiled function may count on."""
    if call.backend != "tensorflow":
        return call
    return replace(call, shape=_shape_to_compile(call.shape, call.axis))


def _shape_to_compile(shape, channel_axis):
    import tensorflow as tf

    if not tf.executing_eagerly():
        return tuple(shape)
    # Every size is known, and the next call's may be others.
    return tuple(size if axis == channel_axis else None for axis, size in enumerate(shape))


def padded_size(sizes):
    """Round sizes up to the next of eight per doubling.

    Args:
        sizes: int32 tensor of any shape, at least 0.

    Returns:
        Tensor of the same shape: sizes up to 16 as they are, 17 becomes 18, 100 becomes 104.

    Example:
        >>> padded_size([5, 17, 32, 100, 128, 129]).numpy().tolist()
        [5, 18, 32, 104, 128, 144]
    """
    import tensorflow as tf

    powers = tf.constant([2**exponent for exponent in range(31)])
    below = tf.gather(powers, tf.searchsorted(powers, tf.maximum(sizes, 1), side="right") - 1)
    step = tf.maximum(below // 8, 1)
    return (sizes + step - 1) // step * step
