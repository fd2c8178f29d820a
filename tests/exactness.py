"""What a float32 layer may be off by at most, and the data that make it hard."""

import functools
import os

import numpy as np

EPSILON = 1e-3
# Offset of unit-variance noise: relative error of the variance, absolute error of the output.
LIMITS = {0.0: (2e-5, 1e-4), 1e2: (2e-5, 3e-4), 1e3: (5e-5, 5e-4), 1e4: (1e-4, 2e-3)}
LIMITS |= {1e5: (5e-4, 2e-2)}
# oneDNN's threads add up their shares one after the other: two keep the bounds at 131,072 samples,
# one alone is off by 2.3e-5 there.
THREADS = len(os.sched_getaffinity(0))
FUSED_BATCH = 128 if THREADS > 1 else 64
# Samples of each channel x channels: (shape, axis).
LAYOUTS = {
    "100 x 3": ((100, 3), -1),
    "131072 x 1": ((131072, 1), -1),
    "131072 x 2, images": ((32, 64, 64, 2), -1),
    "131072 x 4, sequences": ((8 * FUSED_BATCH, 128, 4), -1),
    "131072 x 8, images": ((FUSED_BATCH, 32, 32, 8), -1),
    "131072 x 3, channels first": ((128, 3, 32, 32), 1),
    "16384 x 64, images": ((16, 32, 32, 64), -1),
    "4096 x 64, rows": ((4096, 64), -1),
}
ODD_LAYOUTS = {
    "images": ((64, 16, 16, 8), -1),
    "channels first": ((64, 3, 16, 16), 1),
    "rows": ((4096, 4), -1),
}


@functools.cache
def _noise(shape):
    return np.random.default_rng(0).normal(size=shape)


def noise(shape, axis, offset):
    return _noise(shape) + offset


def an_offset_per_channel(shape, axis, offset):
    sizes = [1] * len(shape)
    sizes[axis] = shape[axis]
    return _noise(shape) + offset * np.linspace(-1, 1, shape[axis]).reshape(sizes)


def a_blank_first_sample(shape, axis, offset):
    x = _noise(shape) + offset
    x[0] = 0
    return x


def a_blank_first_pixel(shape, axis, offset):
    x = np.moveaxis(_noise(shape) + offset, axis, -1)
    if x.ndim > 2:
        x[(slice(None), *[0] * (x.ndim - 2))] = 0
    return np.moveaxis(x, -1, axis)


def one_outlier(shape, axis, offset):
    x = _noise(shape) + offset
    x[(len(x) // 2, *[0] * (x.ndim - 1))] = -10 * offset - 100
    return x


def sorted_classes(shape, axis, offset):
    """Ten classes a standard deviation apart, one after the other."""
    classes = np.arange(shape[0]) * 10 // shape[0]
    return _noise(shape) + offset + classes.reshape(-1, *[1] * (len(shape) - 1))


def blank_borders(shape, axis, offset):
    """Pictures in a frame of zeros: what a sample of the first column of each would see."""
    x = np.moveaxis(_noise(shape) + offset, axis, -1)
    for position in range(1, x.ndim - 1):
        edges = np.moveaxis(x, position, 0)
        edges[0] = edges[-1] = 0
    return np.moveaxis(x, -1, axis)


ODD = [
    an_offset_per_channel,
    a_blank_first_sample,
    a_blank_first_pixel,
    one_outlier,
    sorted_classes,
]


@functools.lru_cache(maxsize=8)
def problem(make, shape, axis, offset, first_counts=True):
    """Return x in float32, and its outputs and variance in float64."""
    x = make(shape, axis, offset).astype("float32")
    exact = np.moveaxis(x.astype("float64"), axis, -1)
    counted = exact if first_counts else exact[1:]
    axes = tuple(range(exact.ndim - 1))
    mean, variance = counted.mean(axes), counted.var(axes)
    outputs = (exact - mean) / np.sqrt(variance + EPSILON)
    return x, np.moveaxis(outputs, -1, axis), variance


def errors(results, expected, variance):
    """Return how far a variance is off, relatively, and the outputs, absolutely.

    An outlier's output may be 360 standard deviations: where it is larger than 1 the error is
    relative to it, for even half of the variance's bound is more than 1e-4 of 360.
    """
    outputs, actual = (np.asarray(result, "float64") for result in results)
    off = np.abs(outputs - expected) / np.maximum(np.abs(expected), 1)
    return np.abs(actual / variance - 1).max(), off.max()


def too_large(compute, make, shape, axis, **options):
    """Compare a function `x -> outputs, variance` at every offset; name what is beyond limits."""
    found = {}
    for offset, limits in LIMITS.items():
        x, *expected = problem(make, shape, axis, offset, **options)
        off = errors(compute(x), *expected)
        if not all(error <= limit for error, limit in zip(off, limits, strict=True)):
            found[offset] = dict(zip(("variance", "outputs"), off, strict=True)), limits
    return found
