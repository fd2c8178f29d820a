"""First gradients in float32 by every way: within 3e-4 of the closed form in float64."""

import batch_norm_closed_form as closed_form
import numpy as np
import pytest
import tensorflow as tf
from calls import normalize_batch
from keras import ops
from marks import thinned

# Minutes together; tests/test_ops_gradient.py and test_layer_jax.py stay in the default suite.
pytestmark = pytest.mark.slow

TOLERANCE = 3e-4
MODES = {
    "eager": lambda function, specs: function,
    "unknown": lambda function, specs: tf.function(function, input_signature=specs),
    "jit_compile": lambda function, specs: tf.function(function, jit_compile=True),
}
RANKS = {2: (60, 8), 3: (10, 6, 8), 4: (10, 3, 4, 8), 5: (6, 2, 3, 2, 8), 6: (4, 2, 2, 2, 2, 8)}
PAIRS = [("auto", "eager"), ("auto", "unknown"), ("auto", "jit_compile")]
PAIRS += [("reference", "eager"), ("reference", "unknown"), ("fused", "eager")]
PAIRS += [("fused", "unknown"), ("xla", "unknown")]
PAIRS += [("reference", "jit_compile"), ("xla", "eager"), ("xla", "jit_compile")]
UNFUSED = [pair for pair in PAIRS if pair[0] != "fused"]
# What is the same computation as another, compiled again.
TWINS = {("reference", "jit_compile"), ("xla", "jit_compile"), ("xla", "eager")}


def every_way(name, cases, usual, pairs):
    """Parametrize a test: the usual cases by every way, the others by those without XLA."""
    rows = [
        pytest.param(*row.values, marks=pytest.mark.slow) if row.values[1:] in TWINS else row
        for row in thinned(cases, pairs, usual)
    ]
    return pytest.mark.parametrize((name, "implementation", "mode"), rows)


def compute(mode, x, upstream, gamma, mask=None, **settings):
    """Return the gradients of x, gamma and beta."""
    arrays = [x, upstream, *([] if mask is None else [mask])]
    specs = [
        tf.TensorSpec([None, *array.shape[1:]], tf.bool if array is mask else tf.float32)
        for array in arrays
    ]

    def step(x, upstream, mask=None):
        parameters = tf.constant(gamma), tf.zeros_like(gamma)
        with tf.GradientTape() as tape:
            tape.watch((x, *parameters))
            outputs = normalize_batch(x, *parameters, mask, **settings)[0]
            loss = tf.reduce_sum(outputs * upstream)
        return tape.gradient(loss, (x, *parameters))

    return MODES[mode](step, specs)(*map(tf.constant, arrays))


def assert_close(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        scale = max(1, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE * scale)


def data(shape, axis=-1, offset=0.5):
    random = np.random.default_rng(len(shape))
    x = (random.normal(size=shape) + offset).astype("float32")
    upstream = random.normal(size=shape).astype("float32")
    return x, upstream, random.uniform(0.5, 1.5, shape[axis]).astype("float32")


@every_way("ndim", RANKS, (4,), PAIRS)
def test_every_rank(ndim, implementation, mode):
    if implementation == "fused" and ndim > 5:
        pytest.skip("the fused kernel takes 2 to 5 dimensions")
    arrays = data(RANKS[ndim])
    actual = compute(mode, *arrays, implementation=implementation)
    assert_close(actual, closed_form.gradients(*arrays))


@every_way("axis", [0, 1, 2], (1,), PAIRS)
def test_every_other_axis(axis, implementation, mode):
    arrays = data((5, 4, 6, 3), axis)
    if axis == 0 and mode == "unknown":
        mode = "eager"  # channels are never unknown
    actual = compute(mode, *arrays, implementation=implementation, axis=axis)
    assert_close(actual, closed_form.gradients(*arrays, axis=axis))


@pytest.mark.parametrize(
    ("implementation", "mode"),
    [
        ("auto", "eager"),
        ("auto", "unknown"),
        ("fused", "unknown"),
        pytest.param("xla", "unknown", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("shape", [(64, 16, 16, 8), (2048, 64)])
@pytest.mark.parametrize("offset", [0.0, 30.0, 1e3])
def test_large_inputs_at_an_offset(offset, shape, implementation, mode):
    """These take the fused kernel, and from a mean of 4 on the plain sums before its gradient."""
    arrays = data(shape, offset=offset)
    actual = compute(mode, *arrays, implementation=implementation)
    assert_close(actual, closed_form.gradients(*arrays))


MASKS = {"sequence": ((10, 6, 8), -1, (10, 6, 1)), "broadcast": ((10, 6, 8), -1, (1, 6, 1))}
MASKS |= {"channels_first": ((10, 8, 6), 1, (10, 1, 6)), "channel": ((10, 6, 1), -1, (10, 6, 1))}
MASKS |= {"by_channel": ((10, 8, 6), 1, (10, 8, 1))}


@every_way("name", MASKS, ("by_channel",), UNFUSED)
def test_masks(name, implementation, mode):
    shape, axis, mask_shape = MASKS[name]
    x, upstream, gamma = data(shape, axis)
    mask = np.random.default_rng(3).uniform(size=mask_shape) < 0.6
    if mask_shape[0] == 1 and mode == "unknown":
        mode = "eager"  # its batch is 1, not unknown
    options = {"implementation": implementation, "axis": axis}
    actual = compute(mode, x, upstream, gamma, mask, **options)
    assert_close(actual, closed_form.gradients(x, upstream, gamma, mask, axis))


GHOSTS = {"even_and_rest": (4, -1, False), "channels_first": (4, 1, True)}
GHOSTS |= {"masked": (3, -1, True), "smaller_batch": (16, -1, False)}


@every_way("name", GHOSTS, ("masked",), UNFUSED)
def test_ghost_batches(name, implementation, mode):
    ghost, axis, masked = GHOSTS[name]
    x, upstream, gamma = data((10, 6, 6), axis)
    mask = None
    if masked:
        mask = np.expand_dims(np.random.default_rng(3).uniform(size=(10, 6)) < 0.6, axis)
    options = {"implementation": implementation, "axis": axis, "virtual_batch_size": ghost}
    actual = compute(mode, x, upstream, gamma, mask, **options)
    assert_close(actual, closed_form.gradients(x, upstream, gamma, mask, axis, ghost))


@pytest.mark.parametrize("implementation", ["auto", "fused", "reference", "xla"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_half_precision_rounds_only_inputs_and_outputs(dtype, tolerance, implementation):
    x, upstream, gamma = data((64, 8, 8, 32))
    half = ops.cast(x, dtype)
    with tf.GradientTape() as tape:
        tape.watch(half)
        outputs, mean, variance, _ = normalize_batch(
            half, tf.constant(gamma), dtype=dtype, implementation=implementation
        )
        loss = tf.reduce_sum(tf.cast(outputs, "float32") * upstream)
    gradient = tape.gradient(loss, half)
    assert outputs.dtype == gradient.dtype == half.dtype
    assert mean.dtype == variance.dtype == tf.float32
    exact = np.asarray(tf.cast(half, "float64"))
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(variance, exact.var((0, 1, 2)), rtol=1e-5)
    expected = closed_form.gradients(exact, upstream, gamma)[0]
    # Gradients of up to 5, rounded once; the upstream gradient as well.
    np.testing.assert_allclose(tf.cast(gradient, "float64"), expected, atol=5 * tolerance)


@pytest.mark.parametrize("implementation", ["reference", "xla"])
def test_one_layer_may_meet_masks_with_and_without_channels(implementation):
    """What was compiled for the one serves the other, and must not take it for the same."""
    for name in ("channels_first", "by_channel", "channels_first"):
        shape, axis, mask_shape = MASKS[name]
        x, upstream, gamma = data(shape, axis)
        mask = np.random.default_rng(3).uniform(size=mask_shape) < 0.6
        options = {"implementation": implementation, "axis": axis, "epsilon": 1e-3}
        actual = compute("eager", x, upstream, gamma, mask, **options)
        assert_close(actual, closed_form.gradients(x, upstream, gamma, mask, axis))
