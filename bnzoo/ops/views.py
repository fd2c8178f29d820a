"""How a tensor is laid out for its sums: the same numbers, in a shape that adds up fast.

A view is chosen once per call (`bnzoo.ops.rules`). Each has the same methods:

    lay(x)         (batch, ..., channels, ...) -> the view's shape
    unlay(v, x)    back to the shape of x
    total(v)       sum over every position of a channel -> (channels,)
    spread(values) (channels,) -> something that broadcasts against the view
    first(v)       the first position of each channel, zero if there is none
    sample(v)      some positions of every part of the data
    positions_of(shape)  the numbers whose product counts a channel's positions

All add up in parts and then add the parts: a float32 sum that runs through 131,072 squares one
after the other is off by 2e-5, one in parts of a few thousand by 1e-6.
"""

# The methods are explained once, above.
# ruff: noqa: D102

import math
from dataclasses import dataclass
from typing import ClassVar

from keras import ops

from bnzoo.ops.shapes import along_channels, reduction_axes

# Every how many positions one is looked at for a first guess of the mean, at most. A sample that is
# one part in k of the data lies within sqrt(k) standard deviations of its mean, whatever the data:
# blank first rows, outliers and sorted classes included. The variance around it then loses a factor
# k of float32's 6e-8 in the worst case, and nothing on ordinary data.
SPARSEST = 64
# Rows that a matrix product adds up one after the other.
BLOCK = 512
# Sampled positions of each example, where there are that many.
SAMPLES = 8


@dataclass(frozen=True)
class Whole:
    """The tensor as it is; or with a leading axis of ghost batches, each with its own sums.

    Attributes:
        ndim: number of dimensions.
        axis: the channel axis, in [0, ndim).
        channels: at least 1.
        ghosts: the first axis counts ghost batches, and sums have the shape (ghosts, channels).
    """

    ndim: int
    axis: int
    channels: int
    ghosts: bool = False

    def lay(self, x):
        return x

    def positions_of(self, shape):
        first = 1 if self.ghosts else 0
        return [shape[axis] for axis in reduction_axes(self.ndim, self.axis)[first:]]

    def unlay(self, view, x):
        return view

    def total(self, view):
        axes = reduction_axes(self.ndim, self.axis)
        return ops.sum(view, axes[1:] if self.ghosts else axes)

    def spread(self, values):
        if not self.ghosts or values.ndim == 1:
            return along_channels(values, self.ndim, self.axis)
        shape = [1] * self.ndim
        shape[0], shape[self.axis] = ops.shape(values)
        return ops.reshape(values, shape)

    def first(self, view):
        axes = reduction_axes(self.ndim, self.axis)[1 if self.ghosts else 0 :]
        start = tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(self.ndim))
        return self.total(view[start])

    def sample(self, view):
        return view


@dataclass(frozen=True)
class Rows:
    """Channels last, as (samples / fold, fold * channels): wide rows, for TensorFlow's own kernels.

    Eigen broadcasts a vector of 3 or 17 channels slowly and one of 512 fast.

    Attributes:
        channels: at least 1.
        fold: samples per row, at least 1; divides their number.
        by_matmul: take sums as the product of a row of ones with the view, which is threaded.
    """

    axis: ClassVar[int] = -1
    channels: int
    fold: int = 1
    by_matmul: bool = False

    def positions_of(self, shape):
        return [shape[0], self.fold]

    def lay(self, x):
        width = self.fold * self.channels
        return x if x.ndim == 2 and self.fold == 1 else ops.reshape(x, (-1, width))

    def unlay(self, view, x):
        return view if x.ndim == 2 and self.fold == 1 else ops.reshape(view, ops.shape(x))

    def total(self, view):
        if self.by_matmul:
            sums = _sum_in_blocks(view) if self.fold == 1 else _sum_rows(view)
        else:
            sums = ops.sum(view, 0)
        if self.fold == 1:
            return sums
        return ops.sum(ops.reshape(sums, (self.fold, self.channels)), 0)

    def spread(self, values):
        return values if self.fold == 1 else ops.tile(values, (self.fold,))

    def first(self, view):
        return ops.sum(view[:1, : self.channels], 0)

    def sample(self, view):
        return view[::SAMPLES]


@dataclass(frozen=True)
class Planes:
    """Channels anywhere, as (before, channels, after): sums over `after` first, then `before`.

    Attributes:
        axis: the channel axis, in [0, ndim).
        channels: at least 1.
        after: product of the dimensions after the axis, or None where it is unknown.
    """

    axis: int
    channels: int
    after: int | None

    def positions_of(self, shape):
        return [shape[0], shape[2]]

    def lay(self, x):
        after = self.after
        if after is None:
            after = math.prod(ops.shape(x)[self.axis + 1 :])
        return ops.reshape(x, (math.prod(ops.shape(x)[: self.axis]), self.channels, after))

    def unlay(self, view, x):
        return ops.reshape(view, ops.shape(x))

    def total(self, view):
        return ops.sum(ops.sum(view, 2), 0)

    def spread(self, values):
        return ops.reshape(values, (1, self.channels, 1))

    def first(self, view):
        return ops.sum(view[:1, :, :1], (0, 2))

    def sample(self, view):
        few = self.after is not None and self.after < SAMPLES
        return view[::SAMPLES] if few else _every_few(view, 2, self.after)


@dataclass(frozen=True)
class Stacks:
    """Channels last, as (batch, positions, channels), for XLA.

    XLA's CPU compiler adds up columns slowly when something is computed on the way, and a batched
    matrix product with ones at the speed of the memory; it merges two sums into one, but not these.

    Attributes:
        channels: at least 1.
        positions: of each example, or None where unknown; 0: the input is (batch, channels).
        sums: `"matmul"` (TensorFlow's XLA on a CPU), `"batch_first"` (JAX on a CPU) or `"at_once"`
            (GPUs, and matrices).
    """

    axis: ClassVar[int] = -1
    channels: int
    positions: int | None
    sums: str = "at_once"

    def positions_of(self, shape):
        return shape[:2]

    def lay(self, x):
        if self.positions == 0:
            return ops.expand_dims(x, 0)
        if self.positions is None:
            shape = ops.shape(x)
            return ops.reshape(x, (shape[0], math.prod(shape[1:-1]), self.channels))
        return ops.reshape(x, (-1, self.positions, self.channels))

    def unlay(self, view, x):
        return view[0] if self.positions == 0 else ops.reshape(view, ops.shape(x))

    def total(self, view):
        if self.sums == "matmul":
            batch, positions, _ = ops.shape(view)
            ones = ops.ones((batch, 1, positions), view.dtype)
            return ops.sum(ops.matmul(ones, view)[:, 0], 0)
        if self.sums == "batch_first":
            return ops.sum(ops.sum(view, 0), 0)
        return ops.sum(view, (0, 1))

    def spread(self, values):
        return values

    def first(self, view):
        return ops.sum(view[:1, :1], (0, 1))

    def sample(self, view):
        return _every_few(view, 1, self.positions)


def _sum_rows(view):
    return ops.matmul(ops.ones((1, ops.shape(view)[0]), view.dtype), view)[0]


def _sum_in_blocks(view):
    """Add up the rows of a matrix; the product alone would run through them one after the other."""
    rows, width = ops.shape(view)
    if isinstance(rows, int) and rows <= 2 * BLOCK:
        return _sum_rows(view)
    blocks = rows // BLOCK
    within = blocks * BLOCK
    sums = ops.reshape(view[:within], (blocks, BLOCK, width))
    sums = ops.matmul(ops.ones((1, 1, BLOCK), view.dtype), sums)[:, 0]
    return ops.sum(sums, 0) + _sum_rows(view[within:])


def _every_few(view, axis, length):
    """Take every n-th position along an axis, `SAMPLES` of them or one in `SPARSEST`."""
    step = SAMPLES if not length else min(max(length // SAMPLES, 1), SPARSEST)
    start = step // 2 if length else 0
    return view[(slice(None),) * axis + (slice(start, None, step),)]
