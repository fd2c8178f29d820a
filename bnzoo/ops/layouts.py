"""The layout of the sums: the same numbers, in a shape that adds up fast.

A float32 sum that runs through 131,072 squares one after the other is off by 2e-5 to 3e-5, one in
parts of a few thousand by 1e-6: where the backend's own sum has no parts, the layout has.
"""

import contextlib
import math
from functools import cache
from typing import NamedTuple

import keras
from keras import ops

from bnzoo.ops.kernels import Call
from bnzoo.versions import private

# The pivot is the mean of a sample. One that is one part in k of the data lies within sqrt(k)
# standard deviations of its mean, whatever the data: blank first rows, outliers and sorted classes
# included. The variance around it then loses a factor k of float32's 6e-8 in the worst case, and
# nothing on ordinary data. On a CPU every 8th row, or 8 positions of each example but at least one
# in 64, are sampled.
SAMPLES = 8
SPARSEST = 64
# On a GPU, at most so many positions in all, far apart: a larger sample costs another kernel.
SAMPLE_SIZE = 256
# Of so few positions a channel the pivot is the plain mean.
FEW_POSITIONS = 4096
# From how many elements on sums are faster as matrix products, which are threaded.
MATMUL_FROM = 2**16
# On a GPU: from how many elements on sums are cut into parts, how many sums there then are (parts
# times channels), from where on twice as many, and the most parts that one kernel adds up.
CUT_FROM, CUT_SUMS, CUT_MORE_FROM, MOST_PARTS = 2**15, 2**17, 2**25, 4096
# Rows that a matrix product adds up one after the other.
BLOCK = 512
# Numbers in a row of the `"rows"` layout, at most.
ROW = 512


class Layout(NamedTuple):
    """How a tensor lies while it is summed and scaled, channel by channel.

    Attributes:
        kind: `"native"`: as it is. `"rows"`: channels last, as (samples / samples_per_row,
            samples_per_row * channels): Eigen broadcasts a vector of 512 channels fast, and one of
            3 or 17 slowly. `"batched"`: channels last, as (batch, positions, channels).
            `"channels_first"`: as (before, channels, after), for channels anywhere.
        ndim: number of dimensions of the inputs.
        axis: the channel axis of the inputs, in [0, ndim).
        channels: at least 1.
        sums: `"plain"`; `"matmul"`: as products with ones, which are threaded; `"staged"`: over
            one axis, then over the other; `"parts"`: each part, then the parts, apart.
        samples_per_row: of `"rows"`, at least 1; divides their number.
        parts: of `"batched"`: the length of the first axis; 0: that of the batch.
        ghosts: of `"native"`: the first axis counts ghost batches, each with its own sums.
        pivot: what `bnzoo.ops.statistics.moments` subtracts: `"mean"` or the mean of a `"sample"`.
    """

    kind: str
    ndim: int
    axis: int
    channels: int
    sums: str = "plain"
    samples_per_row: int = 1
    parts: int = 0
    ghosts: bool = False
    pivot: str = "sample"

    def to_layout(self, x):
        """Return x, of shape (batch, ..., channels, ...), in the layout's shape."""
        shape = ops.shape(x)
        if self.kind == "batched":
            first, rest = (self.parts, -1) if self.parts else (shape[0], math.prod(shape[1:-1]))
            return ops.reshape(x, (first, rest, self.channels))
        if self.kind == "channels_first":
            before, after = math.prod(shape[: self.axis]), math.prod(shape[self.axis + 1 :])
            return ops.reshape(x, (before, self.channels, after))
        if self.kind == "native" or (self.ndim == 2 and self.samples_per_row == 1):
            return x
        return ops.reshape(x, (-1, self.samples_per_row * self.channels))

    def weights_to_layout(self, weights):
        """Return weights, of the shape of x or 1 at its channels, so that they meet the layout."""
        if weights is None:
            return None
        return self._replace(channels=weights.shape[self.axis]).to_layout(weights)

    def from_layout(self, values, like):
        """Return values of the layout's shape in the shape of `like`."""
        return values if self.kind == "native" else ops.reshape(values, ops.shape(like))

    def reduce_sum(self, values):
        """Add up over every position of a channel: (channels,), or (ghosts, channels)."""
        if self.kind == "rows":
            if self.sums == "matmul":
                # One product would run through all rows one after the other.
                rows, width = ops.shape(values)
                blocks = rows // BLOCK
                within = blocks * BLOCK
                ones = ops.ones((1, BLOCK), values.dtype)
                sums = ops.matmul(ones, ops.reshape(values[:within], (blocks, BLOCK, width)))
                rest = ops.matmul(ones[:, : rows - within], values[within:])
                sums = ops.sum(sums, (0, 1)) + ops.sum(rest, 0)
            else:
                sums = ops.sum(values, 0)
            if self.samples_per_row == 1:
                return sums
            return ops.sum(ops.reshape(sums, (self.samples_per_row, self.channels)), 0)
        if self.kind == "channels_first":
            return ops.sum(ops.sum(values, 2), 0)
        if self.sums == "matmul":
            batch, positions, _ = ops.shape(values)
            ones = ops.ones((batch, 1, positions), values.dtype)
            return ops.sum(ops.matmul(ones, values), (0, 1))
        if self.sums == "staged":
            return ops.sum(ops.sum(values, 0), 0)
        if self.sums == "parts":
            return ops.sum(_barrier(ops.sum(values, 1)), 0)
        return ops.sum(values, self.reduction_axes())

    def broadcast(self, values):
        """Shape (channels,) or (ghosts, channels) so that it meets the layout's shape."""
        if self.kind == "rows":
            return ops.tile(values, (self.samples_per_row,)) if self.samples_per_row > 1 else values
        if self.kind == "channels_first":
            return along_channels(values, 3, 1)
        if self.kind == "batched":
            return values
        if values.ndim == 1:
            return along_channels(values, self.ndim, self.axis)
        shape = [1] * self.ndim
        shape[0], shape[self.axis] = ops.shape(values)
        return ops.reshape(values, shape)

    def spread(self, values):
        """Do what `broadcast` does, in two steps where `reduce_sum` has two: JAX transposes it."""
        if self.sums == "parts":
            values = ops.broadcast_to(values, (self.parts, self.channels))
            return ops.expand_dims(_barrier(values), 1)
        return self.broadcast(values)

    def for_elements(self):
        """Return the layout for what is computed element by element.

        On a GPU, XLA computes anew what an activation behind needs, instead of writing it down,
        where that lies as the inputs do.
        """
        if self.sums == "parts":
            return Layout("native", self.ndim, self.axis, self.channels)
        return self

    def num_positions(self, values):
        """Count the positions of each channel: an integer, or a tensor where it is unknown."""
        shape = ops.shape(values)
        return math.prod(shape[axis] for axis in self.reduction_axes()) * self.samples_per_row

    def first(self, values):
        """Return the first position of each channel, zero where there is none."""
        if self.samples_per_row > 1:
            values = values[:, : self.channels]
        for axis in self.reduction_axes():
            values = values[(slice(None),) * axis + (slice(0, 1),)]
        return ops.sum(values, self.reduction_axes())

    def sample(self, values):
        """Return some positions from every part of values, or all; values may be None."""
        if values is None or self.kind == "native" or self.pivot == "mean":
            return values
        if self.parts:
            # Steps that share no factor with any size: never the same column of every image.
            values = ops.reshape(values, (1, -1, values.shape[-1]))
            step = max(values.shape[1] // SAMPLE_SIZE, SAMPLES)
            while math.gcd(step, values.shape[1]) > 1:
                step += 1
            return values[:, step // 2 :: step]
        axis = {"rows": 0, "batched": 1, "channels_first": 2}[self.kind]
        length, start = values.shape[axis], 0
        if self.kind == "channels_first" and length is not None and length < SAMPLES:
            axis, length = 0, None
        step = SAMPLES
        if axis > 0 and length:
            step = min(max(length // SAMPLES, 1), SPARSEST)
            start = step // 2
        return values[(slice(None),) * axis + (slice(start, None, step),)]

    def for_sample(self):
        """Return the layout of a sample."""
        return self._replace(sums="plain", parts=1) if self.sums == "parts" else self

    def reduction_axes(self):
        """Name the axes, in the layout's shape, over which a channel is summed."""
        if self.kind == "native":
            return [i for i in range(int(self.ghosts), self.ndim) if i != self.axis]
        return {"rows": [0], "batched": [0, 1], "channels_first": [0, 2]}[self.kind]


def choose_layout(call: Call, compiled: bool) -> Layout:
    """Choose the layout for a call.

    Args:
        call: what is known of it.
        compiled: XLA compiles the computation; else its operations run one by one.

    Returns:
        A `Layout`.
    """
    ndim, axis, channels = len(call.shape), call.axis, call.channels
    if call.ghosts or call.backend not in ("tensorflow", "jax"):
        return Layout("native", ndim, axis, channels, ghosts=call.ghosts)
    if not call.channels_last:
        return Layout("channels_first", ndim, axis, channels)
    if compiled or call.backend == "jax":
        if call.gpu and None not in call.shape:
            parts = _num_parts(call)
            sums = "parts" if parts > 1 else "plain"
            return Layout("batched", ndim, axis, channels, sums, parts=parts)
        if ndim <= 2:
            return Layout("rows", ndim, axis, channels)
        # XLA's CPU compiler adds up columns slowly when something is computed on the way, and a
        # batched product with ones at the speed of the memory; it merges two sums into one, but
        # not these. JAX's takes sums in two stages better.
        on_cpu = "staged" if call.backend == "jax" else "matmul"
        return Layout("batched", ndim, axis, channels, "plain" if call.gpu else on_cpu)
    large = call.elements >= MATMUL_FROM
    if None in call.shape:
        # 131,072 squares, added one after the other, are off by 3e-5 unless columns fill registers.
        large = large or (channels % 8 != 0 and ndim > 2) or 1 < channels < 8
        large = large or None in call.shape[1:]
    few = None not in call.shape and call.elements <= FEW_POSITIONS * channels
    sums, together = ("matmul", _samples_per_row(call)) if large else ("plain", 1)
    pivot = "mean" if few else "sample"
    return Layout("rows", ndim, axis, channels, sums, samples_per_row=together, pivot=pivot)


def _samples_per_row(call):
    """Find how many samples to put into one row: a power of two, up to `ROW` numbers."""
    known = call.shape[1:-1] if call.shape[0] is None else call.shape[:-1]
    if call.masked or None in known:
        return 1
    samples, together = math.prod(known), 1
    while samples and samples % (2 * together) == 0 and 2 * together * call.channels <= ROW:
        together *= 2
    return together


def _num_parts(call):
    """Find into how many parts to cut sums on a GPU, where one sum would run on few blocks.

    With as many, XLA's compiler also computes the masked gradient of a ReLU behind twice instead of
    writing it down: `scripts/gpu_passes.py` counts the bytes, by which the numbers were chosen.
    """
    if call.elements < CUT_FROM:
        return 1
    sums = 2 * CUT_SUMS if call.elements >= CUT_MORE_FROM else min(call.elements // 8, CUT_SUMS)
    positions = call.elements // call.channels
    parts = max(min(sums // call.channels, MOST_PARTS), 1)
    while positions % parts:
        parts -= 1
    return parts


def _barrier(values):
    """Keep XLA from merging a sum of sums into one."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.lax.optimization_barrier(values)
    return _tensorflow_barrier()([values])[0]


@cache
def _tensorflow_barrier():
    import tensorflow as tf

    # `tf.raw_ops` lacks it.
    home, name = "tensorflow.compiler.tf2xla.ops.gen_xla_ops", "xla_optimization_barrier"
    barrier = private(home, name, "On a GPU sums in parts are one sum, which takes longer.")
    if barrier is None:
        return list  # as it came
    with contextlib.suppress(KeyError):  # somebody else has told TensorFlow its gradient
        tf.RegisterGradient("XlaOptimizationBarrier")(lambda op, *grads: barrier(grads))
    return barrier


def along_channels(values, ndim: int, axis: int):
    """Reshape one value per channel so that it broadcasts against a tensor.

    Args:
        values: tensor of shape (channels,).
        ndim: number of dimensions of the tensor it will meet.
        axis: the channel axis of that tensor, in [-ndim, ndim).

    Returns:
        Tensor of shape (1, ..., channels, ..., 1), `ndim` dimensions.

    Example:
        >>> along_channels(ops.ones((5,)), 4, 1).shape == (1, 5, 1, 1)
        True
    """
    shape = [1] * ndim
    shape[axis] = -1
    return ops.reshape(values, shape)
