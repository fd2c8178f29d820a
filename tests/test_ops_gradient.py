"""The written-out gradient against float64 complex steps and central differences."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from batch_norm_reference import EPSILON, Problem, batch_norm
from calls import normalize_batch
from keras import ops

from bnzoo.ops import Settings
from bnzoo.ops import batch_norm as our_batch_norm

MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": functools.partial(tf.function, jit_compile=True),
}
PROBLEMS = {
    "matrix": {"shape": (7, 3)},
    "image": {"shape": (2, 3, 2, 2)},
    "channels_first": {"shape": (3, 2, 4), "axis": 1},
    "masked": {"shape": (3, 4, 2), "mask_shape": (3, 4, 1)},
    "masked_channels_first": {"shape": (3, 2, 4), "axis": 1, "mask_shape": (3, 1, 4)},
    "masked_broadcast": {"shape": (3, 4, 2), "mask_shape": (1, 4, 1)},
    "masked_by_channel": {"shape": (5, 2, 2), "axis": 1, "mask_shape": (5, 2, 1)},
}
COMPILED = {
    ("xla", "auto"): ("matrix", "masked"),
    ("graph", "xla"): ("image", "channels_first", "masked_broadcast"),
    ("eager", "xla"): ("matrix",),
}


@functools.cache
def problem_and_gradients(name):
    problem = Problem(**PROBLEMS[name])
    return problem, problem.gradient(), problem.second_gradient()


def tensors_of(problem):
    return [tf.constant(array) for array in problem.arrays]


def loss_of(problem, x, gamma, beta, implementation="auto"):
    mask = None if problem.mask is None else tf.constant(problem.mask)
    settings = Settings(problem.axis, EPSILON, x.dtype.name, implementation)
    outputs, mean, variance, _ = our_batch_norm(x, gamma, beta, mask, settings)
    pairs = zip(problem.factors, (outputs, mean, variance), strict=True)
    return sum(ops.sum(factor * result * result) for factor, result in pairs)


def first_and_second(problem, *tensors, **options):
    with tf.GradientTape() as outer:
        outer.watch(tensors)
        with tf.GradientTape() as inner:
            inner.watch(tensors)
            loss = loss_of(problem, *tensors, **options)
        first = inner.gradient(loss, tensors)
        pairs = zip(first, problem.directions, strict=True)
        projected = sum(ops.sum(part * direction) for part, direction in pairs)
    return first, outer.gradient(projected, tensors)


def assert_all_close(actual, expected, **tolerance):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


def ways():
    """Every problem in every mode by every way; the usual ones, XLA taking seconds for each."""
    for name, mode, implementation in itertools.product(PROBLEMS, MODES, ("auto", "xla")):
        compiled = mode == "xla" or implementation == "xla"
        usual = not compiled or name in COMPILED.get((mode, implementation), ())
        marks = () if usual else pytest.mark.slow
        yield pytest.param(name, mode, implementation, marks=marks)


@pytest.mark.parametrize(("name", "mode", "implementation"), list(ways()))
def test_first_and_second_gradients_are_those_of_the_formula(name, mode, implementation):
    problem, expected_first, expected_second = problem_and_gradients(name)
    compute = MODES[mode](
        lambda *tensors: first_and_second(problem, *tensors, implementation=implementation)
    )
    first, second = compute(*tensors_of(problem))
    # Both sides in float64: only rounding is left.
    assert_all_close(first, expected_first, rtol=1e-10, atol=1e-11)
    # The reference's central differences are good to about 1e-9 of the largest entry.
    assert_all_close(second, expected_second, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("output", ["outputs", "mean", "variance"])
def test_each_output_alone_has_its_gradient(output):
    problem = Problem((3, 4, 2), mask_shape=(3, 4, 1), outputs=(output,))
    first, second = first_and_second(problem, *tensors_of(problem))
    zeros = [np.zeros(array.shape) for array in problem.arrays]
    first = [zero if part is None else part for part, zero in zip(first, zeros, strict=True)]
    second = [zero if part is None else part for part, zero in zip(second, zeros, strict=True)]
    # Tolerances as above.
    assert_all_close(first, problem.gradient(), rtol=1e-10, atol=1e-11)
    assert_all_close(second, problem.second_gradient(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("missing", ["gamma", "beta", "both"])
def test_a_missing_parameter_counts_as_one_or_zero(missing):
    problem = Problem((6, 3))
    x, gamma, beta = tensors_of(problem)
    gamma = tf.ones_like(gamma) if missing in ("gamma", "both") else gamma
    beta = tf.zeros_like(beta) if missing in ("beta", "both") else beta
    absent_gamma = None if missing in ("gamma", "both") else gamma
    absent_beta = None if missing in ("beta", "both") else beta
    results = []
    for parameters in ((gamma, beta), (absent_gamma, absent_beta)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = loss_of(problem, x, *parameters)
        results.append(tape.gradient(loss, x))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)  # the same sums in float64


def test_third_order_is_right_in_one_direction():
    problem = Problem((6, 2))
    x, gamma, beta = tensors_of(problem)
    direction = tf.constant(problem.directions[0])

    def second_along(shift):
        moved = x + shift * direction
        with tf.GradientTape() as outer:
            outer.watch(moved)
            with tf.GradientTape() as inner:
                inner.watch(moved)
                loss = loss_of(problem, moved, gamma, beta)
            along = tf.reduce_sum(inner.gradient(loss, moved) * direction)
        return tf.reduce_sum(outer.gradient(along, moved) * direction)

    shift = tf.constant(0.0, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(shift)
        second = second_along(shift)
    step = 1e-5
    numeric = (second_along(shift + step) - second_along(shift - step)) / (2 * step)
    # Central differences of float64: about 1e-9.
    np.testing.assert_allclose(tape.gradient(second, shift), numeric, rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
@pytest.mark.parametrize("mode", MODES)
def test_float32_gradient_stays_close_to_float64(mode, offset):
    random = np.random.default_rng(3)
    x = (random.normal(size=(16, 8, 8, 4)) + offset).astype("float32")
    upstream = random.normal(size=x.shape).astype("float32")

    @MODES[mode]
    def compute(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs, *_ = normalize_batch(x, epsilon=EPSILON, dtype="float32")
            loss = tf.reduce_sum(outputs * upstream)
        return tape.gradient(loss, x)

    centered = x.astype("float64") - x.astype("float64").mean((0, 1, 2))
    inverse = 1 / np.sqrt(np.mean(centered**2, (0, 1, 2)) + EPSILON)
    normal = centered * inverse
    dy = upstream.astype("float64")
    along = (dy * normal).mean((0, 1, 2))
    expected = inverse * (dy - dy.mean((0, 1, 2)) - normal * along)
    # The mean is a float32: off by up to 3e-5 at 1000, and the gradient is of order 1.
    np.testing.assert_allclose(compute(tf.constant(x)), expected, atol=2e-5 + 3e-8 * offset)


def test_values_agree_with_numpy():
    problem = Problem((3, 4, 2), mask_shape=(3, 4, 1))
    x, gamma, beta = tensors_of(problem)
    outputs, mean, variance, count = normalize_batch(
        x, gamma, beta, tf.constant(problem.mask), epsilon=EPSILON, dtype="float64"
    )
    expected = batch_norm(*problem.arrays, problem.mask)
    assert_all_close((outputs, mean, variance), expected, rtol=1e-12)  # float64 rounding
    np.testing.assert_array_equal(tf.broadcast_to(count, [2]), [problem.mask.sum()] * 2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradient_keeps_the_dtype_of_the_input(dtype):
    x = ops.cast(keras.random.normal((6, 4)), dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs, mean, variance, _ = normalize_batch(x, dtype=dtype)
        loss = tf.reduce_sum(outputs * outputs)
    gradient = tape.gradient(loss, x)
    assert gradient.dtype == outputs.dtype == x.dtype
    assert mean.dtype == variance.dtype == tf.float32


def test_gradient_of_the_padding_does_not_reach_the_statistics():
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 2)))
    mask = tf.constant([[[True], [True], [False]], [[True], [False], [False]]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, mean, variance, _ = our_batch_norm(x, None, None, mask, Settings(dtype="float64"))
        loss = tf.reduce_sum(mean) + tf.reduce_sum(variance)
    gradient = tape.gradient(loss, x).numpy()
    assert np.all(gradient[~mask.numpy()[..., 0]] == 0)
    assert np.all(gradient[mask.numpy()[..., 0]] != 0)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf")])
def test_what_padding_holds_reaches_no_gradient(garbage):
    """First and second gradients equal those with finite padding."""
    problem, *_ = problem_and_gradients("masked")
    x, gamma, beta = tensors_of(problem)
    counted = np.broadcast_to(problem.mask, x.shape).astype(bool)
    kept = tf.constant(counted, x.dtype)

    def gradients(x):
        with tf.GradientTape() as outer:
            outer.watch([x, gamma, beta])
            with tf.GradientTape() as inner:
                inner.watch([x, gamma, beta])
                mask = tf.constant(problem.mask)
                outputs = normalize_batch(x, gamma, beta, mask, epsilon=EPSILON, dtype=x.dtype)[0]
                loss = tf.reduce_sum(tf.where(counted, outputs, 0) ** 3)
            first = inner.gradient(loss, [x, gamma, beta])
            squares = sum(tf.reduce_sum(value**2) for value in first)
        return [*first, *outer.gradient(squares, [x, gamma, beta])]

    dirty = tf.where(counted, x, tf.constant(garbage, x.dtype))
    for actual, expected in zip(gradients(dirty), gradients(x * kept), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)
