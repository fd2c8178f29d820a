"""Second order where float64 cannot go or the batch is in parts: fused, ghosts, frozen."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from batch_norm_reference import EPSILON, Problem, batch_norm, gradient, second_gradient
from calls import normalize_batch
from marks import thinned

from bnzoo.ops import Settings, infer

# Minutes together; tests/test_ops_gradient.py and test_layer_jax.py stay in the default suite.
pytestmark = pytest.mark.slow

MODES = {
    "eager": lambda function, shape: function,
    "static": lambda function, shape: tf.function(function),
    "unknown": lambda function, shape: tf.function(
        function, input_signature=[tf.TensorSpec([None, *shape[1:]])]
    ),
}


def first_and_second(problem, outputs_of, x):
    """Differentiate the loss of `outputs_of(x, gamma, beta)`, and the gradient once more."""
    tensors = [x, *(tf.constant(array, x.dtype) for array in problem.arrays[1:])]
    factor, directions = problem.factors[0], problem.directions
    with tf.GradientTape() as outer:
        outer.watch(tensors)
        with tf.GradientTape() as inner:
            inner.watch(tensors)
            outputs = outputs_of(*tensors)
            loss = tf.reduce_sum(tf.cast(factor, x.dtype) * outputs * outputs)
        first = inner.gradient(loss, tensors)
        pairs = zip(first, directions, strict=True)
        projected = sum(tf.reduce_sum(part * tf.cast(to, x.dtype)) for part, to in pairs)
    second = outer.gradient(projected, tensors, unconnected_gradients="zero")
    return [*first, *second]


def assert_close(actual, expected, tolerance):
    for one, other in zip(actual, expected, strict=True):
        scale = max(1, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


def problem_at(offset, shape=(6, 2, 2, 4)):
    problem = Problem(shape, outputs=("outputs",))
    # As float32 has them, for the truth to be about the same numbers.
    problem.arrays[0] = (problem.arrays[0] + offset).astype("float32").astype("float64")
    return problem


@pytest.mark.parametrize(
    ("offset", "implementation", "mode"),
    [
        *thinned([0.0, 100.0], [*itertools.product(["fused", "reference"], MODES)], []),
        *thinned([0.0, 100.0], [("xla", "unknown")], [100.0]),
        *thinned([0.0, 100.0], [("xla", "eager"), ("xla", "static")], []),
    ],
)
def test_float32_is_right_to_second_order(offset, implementation, mode):
    problem = problem_at(offset)

    def outputs_of(*tensors):
        return normalize_batch(*tensors, epsilon=EPSILON, implementation=implementation)[0]

    compute = MODES[mode](lambda x: first_and_second(problem, outputs_of, x), problem.shape)
    actual = compute(tf.constant(problem.arrays[0], "float32"))
    # float32 sums of some 24 terms; near 100 the kernel's second derivative takes its own sums.
    assert_close(actual, [*problem.gradient(), *problem.second_gradient()], 3e-4)


@pytest.mark.parametrize(
    ("case", "mode"),
    thinned(
        itertools.product([-1, 1], [False, True]),
        [("eager",), ("static",), ("xla",)],
        [(1, True)],
    ),
)
def test_ghost_batches_in_float64(case, mode):
    axis, masked = case
    problem = Problem((5, 2, 3), axis, mask_shape=(5, 2, 3) if masked else None)
    if masked:
        problem.mask = np.take(problem.mask, [0], axis)

    def reference(x, gamma, beta):
        outputs = 0
        for start in (0, 2, 4):
            part = np.s_[start : start + 2]
            mask = None if problem.mask is None else problem.mask[part]
            results = batch_norm(x[part], gamma, beta, mask, axis)[0]
            outputs = outputs + (problem.factors[0][part] * results * results).sum()
        return outputs

    def outputs_of(*tensors):
        mask = None if problem.mask is None else tf.constant(problem.mask)
        options = {"axis": axis, "epsilon": EPSILON, "dtype": "float64"}
        if mode == "xla":
            options["implementation"] = "xla"
        return normalize_batch(*tensors, mask, virtual_batch_size=2, **options)[0]

    def step(x):
        return first_and_second(problem, outputs_of, x)

    actual = (step if mode == "eager" else tf.function(step))(tf.constant(problem.arrays[0]))
    first = gradient(reference, problem.arrays)
    second = second_gradient(reference, problem.arrays, problem.directions)
    assert_close(actual[:3], first, 1e-10)
    # Central differences, good to about 1e-9.
    assert_close(actual[3:], second, 1e-7)


@pytest.mark.parametrize("mode", ["eager", "static", "unknown"])
@pytest.mark.parametrize("implementation", ["auto", "reference", "fused", "xla"])
@pytest.mark.parametrize("shape", [(64, 32), (20, 8, 8, 16), (20, 3, 5)])
def test_a_frozen_layer_has_its_gradients(shape, implementation, mode):
    random = np.random.default_rng(0)
    x, factor = random.normal(1.0, 2.0, (2, *shape)).astype("float32")
    mean, gamma, beta, variance = random.uniform(0.5, 1.5, (4, shape[-1]))
    constants = [tf.constant(array, "float32") for array in (mean, variance, gamma, beta)]
    settings = Settings(epsilon=EPSILON, implementation=implementation)

    def step(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch([x, *constants])
                outputs = infer(x, *constants, settings)
                loss = tf.reduce_sum(factor * outputs**3)
            first = inner.gradient(loss, [x, *constants])
            squares = tf.reduce_sum(first[0] ** 2)
        return outputs, *first, outer.gradient(squares, x)

    actual = MODES[mode](step, shape)(tf.constant(x))
    x, factor = x.astype("float64"), factor.astype("float64")
    slope = gamma / np.sqrt(variance + EPSILON)
    y = (x - mean) * slope + beta
    axes = tuple(range(x.ndim - 1))
    through = 3 * factor * y**2
    along = (through * (y - beta)).sum(axes)
    expected = [y, through * slope, -slope * through.sum(axes)]
    expected += [-along / (variance + EPSILON) / 2, along / gamma, through.sum(axes)]
    expected.append(2 * through * slope * 6 * factor * y * slope**2)
    for one, other in zip(actual, expected, strict=True):
        # A few float32 roundings of numbers that grow with the power.
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5 * np.abs(other).max())
