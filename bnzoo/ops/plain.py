"""Batch normalization of a training batch in plain operations, and its written gradient."""

import keras
from keras import ops

from bnzoo.ops.replicas import merge_replicas, sum_over_replicas
from bnzoo.ops.statistics import (
    apply_mask,
    at_least_one,
    finite_where_masked,
    moments,
    statistics_dtype,
)


def plain_batch_norm(settings, layout, inputs, gamma, beta, weights=None, keep_centered=False):
    """Normalize a batch by its own statistics, on TensorFlow with the gradient written beside it.

    With `c = x - mean`, `i = rsqrt(variance + epsilon)` and n samples a channel the gradients are

        grad_beta = sum(dy)
        grad_gamma = sum(dy * c) * i
        grad_mean_term = gamma * i * grad_beta - grad_mean
        grad_variance_term = gamma * i ** 2 * grad_gamma - 2 * grad_variance
        dx = dy * gamma * i - (grad_mean_term + c * grad_variance_term) / n

    where the last term belongs to the samples that counted in the statistics. The mean's part
    in the variance has no gradient, for `sum(c)` is zero. Replicas add up these two terms; the
    gradients of gamma and beta stay local, as the optimizer adds them up. In the code `centered` is
    `x - pivot`, and `offset` makes up for the difference.

    The gradient can be differentiated again: it uses the forward pass' own tensors.

    Args:
        settings: `bnzoo.ops.kernels.Settings`.
        layout: `bnzoo.ops.layouts.Layout` of the sums.
        inputs: float tensor of shape (batch, ..., channels, ...).
        gamma: tensor of shape (channels,) in the statistics' dtype.
        beta: tensor of shape (channels,) in the statistics' dtype.
        weights: zeros and ones, the shape of `inputs` or 1 at the channels; or None: all count.
        keep_centered: leave `x - pivot` for the backward pass, which then need not compute it.

    Returns:
        outputs, of the shape of `inputs`; mean and variance (divided by n) of shape (channels,), or
        (ghosts, channels); count n of a shape that broadcasts to theirs.

    Source:
        Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.1, Algorithm 1, and the gradients
        below it.
    """
    dtype, elements = statistics_dtype(inputs.dtype), layout.for_elements()
    inputs = finite_where_masked(inputs, inputs, weights)
    counted = elements.weights_to_layout(weights)

    def forward(inputs, gamma, beta):
        values = layout.to_layout(ops.cast(inputs, dtype))
        statistics, centered = moments(values, layout.weights_to_layout(weights), layout)
        if settings.synchronized:
            statistics = merge_replicas(statistics)
        count, mean, _, pivot, offset = statistics

        def center(layout):
            return layout.to_layout(ops.cast(inputs, dtype)) - layout.broadcast(pivot)

        around = centered if elements is layout else center(elements)
        outputs, variance, inverse = normalize_centered(
            around, statistics, gamma, beta, settings.epsilon, elements
        )
        kept = centered if keep_centered else None

        def backward(dy, grad_mean, grad_variance, _):
            dy, scale = ops.cast(dy, dtype), gamma * inverse
            summed = layout.to_layout(dy)
            centered = center(layout) if kept is None else kept
            grad_beta = layout.reduce_sum(summed)
            grad_gamma = (layout.reduce_sum(summed * centered) - offset * grad_beta) * inverse
            mean_term = scale * grad_beta - grad_mean
            variance_term = scale * inverse * grad_gamma - 2 * grad_variance
            if settings.synchronized:
                terms = sum_over_replicas(ops.stack([mean_term, variance_term]))
                mean_term, variance_term = ops.unstack(terms, 2)
            divisor = at_least_one(count)
            variance_term = variance_term / divisor
            mean_term = mean_term / divisor - offset * variance_term
            centered = center(elements) if kept is None else kept
            through = centered * elements.broadcast(variance_term) + elements.broadcast(mean_term)
            dx = elements.to_layout(dy) * elements.broadcast(scale)
            dx = elements.from_layout(dx - apply_mask(through, counted), inputs)
            dx = ops.cast(dx, inputs.dtype)
            return dx, sum_over_ghosts(grad_gamma), sum_over_ghosts(grad_beta)

        outputs = ops.cast(elements.from_layout(outputs, inputs), settings.dtype)
        return (outputs, mean, variance, count), backward

    if keras.backend.backend() != "tensorflow":
        return forward(inputs, gamma, beta)[0]
    return ops.custom_gradient(forward)(inputs, gamma, beta)


def normalize_centered(centered, statistics, gamma, beta, epsilon, layout):
    """Normalize `x - pivot`.

    Args:
        centered: tensor in the layout's shape.
        statistics: `bnzoo.ops.statistics.Moments`.
        gamma: tensor of shape (channels,).
        beta: tensor of shape (channels,).
        epsilon: added to the variance, at least 0.
        layout: `bnzoo.ops.layouts.Layout`.

    Returns:
        outputs in the layout's shape; variance and `rsqrt(variance + epsilon)` of shape (channels,)
        or (ghosts, channels).
    """
    variance = statistics.centered_squares / at_least_one(statistics.count)
    inverse = ops.rsqrt(variance + epsilon)
    scale = gamma * inverse
    shift = beta - statistics.offset * scale
    outputs = centered * layout.broadcast(scale) + layout.broadcast(shift)
    return outputs, variance, inverse


def sum_over_ghosts(gradient):
    """Add up the gradients of a parameter that several ghost batches share."""
    return gradient if gradient.ndim == 1 else ops.sum(gradient, 0)
