"""Batch normalization of a training batch on JAX: the plain formula and its tangents.

JAX derives the backward pass from the tangents, and everything else: Hessians, `vmap`, `scan`.
"""

from functools import partial

import jax
from keras import ops

from bnzoo.ops.plain import normalize_centered
from bnzoo.ops.statistics import (
    apply_mask,
    at_least_one,
    finite_where_masked,
    moments,
    statistics_dtype,
)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def jax_batch_norm(settings, layout, inputs, gamma, beta, weights=None):
    """Do what `bnzoo.ops.plain.plain_batch_norm` does, without replicas."""
    return _forward(settings, layout, inputs, gamma, beta, weights)[0]


def _forward(settings, layout, inputs, gamma, beta, weights):
    """Return outputs, mean, variance and count; and what the tangents need beside the inputs."""
    values = _values(inputs, inputs, weights)
    statistics, _ = moments(layout.to_layout(values), layout.weights_to_layout(weights), layout)
    elements = layout.for_elements()
    centered = elements.to_layout(values) - elements.broadcast(statistics.pivot)
    outputs, variance, inverse = normalize_centered(
        centered, statistics, gamma, beta, settings.epsilon, elements
    )
    outputs = ops.cast(elements.from_layout(outputs, inputs), settings.dtype)
    results = outputs, statistics.mean, variance, statistics.count
    return results, (statistics.count, statistics.pivot, statistics.offset, inverse)


@jax_batch_norm.defjvp
def _batch_norm_jvp(settings, layout, primals, tangents):
    """Return the results, and how they move when inputs, gamma and beta do.

    With `c = x - mean`, `i = rsqrt(variance + epsilon)` and n samples a channel:

        mean_dot = sum(x_dot) / n
        variance_dot = 2 * sum(c * x_dot) / n
        scale_dot = gamma_dot * i - gamma * i ** 3 * variance_dot / 2
        y_dot = x_dot * gamma * i + c * scale_dot + beta_dot - mean_dot * gamma * i

    All of it is linear in the tangents, so JAX can transpose it into the backward pass. What it
    keeps for that is x and numbers per channel: `jax.checkpoint` has c computed again.
    """
    inputs, gamma, _, weights = primals
    results, residuals = _forward(settings, layout, *primals)
    tangent = jax.checkpoint(partial(_tangent, settings, layout), prevent_cse=False)
    moved = tangent(inputs, gamma, weights, residuals, *tangents[:3])
    return results, (*moved, ops.zeros_like(results[3]))


def _tangent(settings, layout, inputs, gamma, weights, residuals, x_dot, gamma_dot, beta_dot):
    count, pivot, offset, inverse = residuals
    values, x_dot = (_values(each, inputs, weights) for each in (inputs, x_dot))
    elements, divisor = layout.for_elements(), at_least_one(count)

    def centered(layout):
        return layout.to_layout(values) - layout.broadcast(pivot)

    moved = elements.to_layout(x_dot)
    counted = apply_mask(moved, elements.weights_to_layout(weights))
    mean_dot = elements.reduce_sum(counted) / divisor
    variance_dot = elements.reduce_sum(counted * centered(elements)) / divisor - offset * mean_dot
    variance_dot = 2 * variance_dot
    scale = gamma * inverse
    scale_dot = gamma_dot * inverse - scale * inverse**2 * variance_dot / 2
    shift_dot = beta_dot - mean_dot * scale - offset * scale_dot
    # The backward pass sums up what is spread here.
    through = centered(layout) * layout.spread(scale_dot) + layout.spread(shift_dot)
    outputs = elements.from_layout(moved * elements.broadcast(scale), inputs)
    outputs = outputs + layout.from_layout(through, inputs)
    return ops.cast(outputs, settings.dtype), mean_dot, variance_dot


def _values(values, inputs, weights):
    """Return inputs, or their tangents, as the statistics take them."""
    values = finite_where_masked(values, inputs, weights)
    return ops.cast(values, statistics_dtype(inputs.dtype))
