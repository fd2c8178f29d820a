"""A large mean, many samples and odd data cost no digits: float32 against float64.

The bounds stand in tests/exactness.py; the hardest are 131,072 samples a channel.
"""

import functools

import exactness
import pytest
import tensorflow as tf
from calls import normalize_batch

from bnzoo.ops import kernels

IMPLEMENTATIONS = ("auto", "reference", "xla")
MODES = ("eager", "graph", "jit_compile")
# Compiling costs most of the time: these pairs stand for the rest, which are slow tests.
USUAL = [("auto", mode) for mode in MODES] + [("reference", "graph"), ("xla", "graph")]
ALL = [(implementation, mode) for implementation in IMPLEMENTATIONS for mode in MODES]
ALL += [(implementation, "unknown") for implementation in IMPLEMENTATIONS]
ALL += [("fused", "eager"), ("fused", "graph"), ("fused", "unknown")]


def pairs(all_in_default=False):
    return [
        pytest.param(*pair, marks=() if all_in_default or pair in USUAL else pytest.mark.slow)
        for pair in ALL
    ]


@functools.lru_cache(maxsize=4)
def computation(implementation, mode, shape, axis, masked=False):
    """Return `x -> (outputs, variance)`, traced once for every kind of data."""

    def compute(x):
        mask = None
        if masked:
            mask = tf.reshape(tf.range(tf.shape(x)[0]) > 0, [-1, *[1] * (len(shape) - 1)])
        outputs, _, variance, _ = normalize_batch(
            x, mask=mask, axis=axis, epsilon=exactness.EPSILON, implementation=implementation
        )
        return outputs, variance

    if mode == "eager":
        return lambda x: compute(tf.constant(x))
    batch = None if mode == "unknown" else shape[0]
    spec = [tf.TensorSpec([batch, *shape[1:]])]
    return tf.function(compute, input_signature=spec, jit_compile=mode == "jit_compile")


@pytest.mark.parametrize(("implementation", "mode"), pairs())
@pytest.mark.parametrize("layout", exactness.LAYOUTS)
def test_noise_at_any_offset(layout, implementation, mode):
    shape, axis = exactness.LAYOUTS[layout]
    compute = computation(implementation, mode, shape, axis)
    assert exactness.too_large(compute, exactness.noise, shape, axis) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("implementation", "mode"), pairs(all_in_default=True))
def test_noise_in_64_channels_of_131072_samples(implementation, mode):
    shape = (128, 32, 32, 64)
    compute = computation(implementation, mode, shape, -1)
    assert exactness.too_large(compute, exactness.noise, shape, -1) == {}


@pytest.mark.parametrize(("implementation", "mode"), pairs())
@pytest.mark.parametrize("layout", exactness.ODD_LAYOUTS)
def test_odd_data_at_any_offset(layout, implementation, mode):
    shape, axis = exactness.ODD_LAYOUTS[layout]
    compute = computation(implementation, mode, shape, axis)
    for make in exactness.ODD:
        assert exactness.too_large(compute, make, shape, axis) == {}, make.__name__


@pytest.mark.parametrize(
    ("implementation", "mode"), [pair for pair in pairs() if pair.values[0] != "fused"]
)
@pytest.mark.parametrize("layout", ["images", "channels first"])
@pytest.mark.parametrize("make", [exactness.noise, exactness.a_blank_first_sample])
def test_a_masked_first_sample_at_any_offset(make, layout, implementation, mode):
    shape, axis = exactness.ODD_LAYOUTS[layout]
    compute = computation(implementation, mode, shape, axis, masked=True)
    found = {}
    for offset, limits in exactness.LIMITS.items():
        x, outputs, variance = exactness.problem(make, shape, axis, offset, first_counts=False)
        actual, spread = compute(x)
        # Where the first sample lies 1e5 standard deviations off, so does its output.
        off = exactness.errors((actual[1:], spread), outputs[1:], variance)
        if not all(error <= limit for error, limit in zip(off, limits, strict=True)):
            found[offset] = off, limits
    assert found == {}


@pytest.mark.parametrize("name", ["131072 x 8, images", "131072 x 1", "16384 x 64, images"])
def test_sums_as_a_gpu_takes_them_are_exact(name, monkeypatch):
    """In parts that XLA keeps apart, around a sample of 256; here on a CPU."""
    monkeypatch.setattr(kernels, "on_gpu", lambda: True)
    computation.cache_clear()
    shape, axis = exactness.LAYOUTS[name]
    compute = computation("auto", "jit_compile", shape, axis)
    for make in (exactness.noise, exactness.blank_borders, *exactness.ODD):
        assert exactness.too_large(compute, make, shape, axis) == {}, make.__name__
    computation.cache_clear()


def test_the_bare_fused_kernel_would_fail():
    """Otherwise the tests above would prove nothing about its guard."""
    shape, axis = exactness.LAYOUTS["131072 x 8, images"]

    def bare(x):
        ones, zeros = tf.ones(8), tf.zeros(8)
        outputs, _, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=ones, offset=zeros, mean=[], variance=[], epsilon=exactness.EPSILON
        )
        return outputs, variance

    assert 1e4 in exactness.too_large(bare, exactness.noise, shape, axis)
