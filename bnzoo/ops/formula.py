"""Batch normalization of a training batch in plain operations: forward, and backward to match."""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from keras import ops

from bnzoo.ops.masks import keep
from bnzoo.ops.moments import at_least_one, moments
from bnzoo.ops.normalize import inverse_stddev
from bnzoo.ops.shapes import statistics_dtype
from bnzoo.ops.synchronize import merge_replicas, sum_over_replicas


@dataclass(frozen=True)
class Plan:
    """How to compute; hashable, so that what was compiled for one plan is found again.

    Attributes:
        ndim: number of dimensions of the inputs.
        view: the layout of the sums, see `bnzoo.ops.views`.
        epsilon: added to the variance, at least 0.
        dtype: dtype of the outputs.
        around: what the sums are taken around, see `bnzoo.ops.moments`.
        synchronized: take the statistics over all replicas of a strategy.
        keep_centred: leave `x - shift` for the backward pass, which then need not compute it.
        outputs_only: nothing is differentiated that depends on mean and variance but the outputs.
        by_channel: weights tell channels apart.
    """

    ndim: int
    view: object
    epsilon: float
    dtype: str
    around: str = "mean"
    synchronized: bool = False
    keep_centred: bool = False
    outputs_only: bool = False
    by_channel: bool = False


class Saved(NamedTuple):
    """What the forward pass leaves for the backward pass, besides its arguments."""

    count: object  # () or (channels,)
    shift: object  # (channels,)
    rest: object  # (channels,): the mean of the batch, of all replicas if asked, minus the shift
    inverse: object  # rsqrt(variance + epsilon), (channels,)
    centred: object  # x - shift in the view's shape, or None


def forward(plan, inputs, gamma=None, beta=None, weights=None, run=partial):
    """Normalise a batch by its own statistics.

    Args:
        plan: how.
        inputs: float tensor of shape (batch, ..., channels, ...).
        gamma: tensor of shape (channels,) in the statistics' dtype, or None: 1.
        beta: tensor of shape (channels,) in the statistics' dtype, or None: 0.
        weights: zeros and ones, the shape of `inputs` or 1 at the channels; or None: all count.
        run: `run(function, plan)` is what is called instead of each part between two exchanges
            of replicas; `bnzoo.ops.compiled` compiles it.

    Returns:
        (outputs, mean, variance, count), where the variance is divided by n; and Saved.
    """
    plan = _told_of(plan, weights)
    if not plan.synchronized:
        return run(_take_and_apply, plan)(inputs, gamma, beta, weights)
    statistics, centred = run(_take, plan)(inputs, weights)
    return run(_apply, plan)(inputs, gamma, beta, merge_replicas(statistics), centred)


def blank(plan, inputs):
    """Make a `Saved` of the right structure out of nothing, for a branch that is not taken."""
    nothing = ops.zeros((plan.view.channels,), statistics_dtype(inputs.dtype))
    centred = _lay(plan.view, inputs) if plan.keep_centred else None
    return Saved(nothing[0], nothing, nothing, nothing, centred)


def _take_and_apply(plan, inputs, gamma, beta, weights):
    laid, weights = _lay(plan.view, inputs), _lay_weights(plan, weights)
    statistics, centred = moments(laid, weights, plan.view, plan.around)
    return _normalize(plan, inputs, gamma, beta, statistics, centred)


def _take(plan, inputs, weights):
    laid, weights = _lay(plan.view, inputs), _lay_weights(plan, weights)
    statistics, centred = moments(laid, weights, plan.view, plan.around)
    return statistics, centred if plan.keep_centred else None


def _apply(plan, inputs, gamma, beta, statistics, centred):
    if centred is None:
        centred = _lay(plan.view, inputs) - plan.view.spread(statistics.shift)
    return _normalize(plan, inputs, gamma, beta, statistics, centred)


def _normalize(plan, inputs, gamma, beta, statistics, centred):
    view, (count, mean, squares, shift, rest) = plan.view, statistics
    variance = squares / at_least_one(count)
    inverse = inverse_stddev(variance, plan.epsilon)
    scale = inverse if gamma is None else gamma * inverse
    offset = -rest * scale if beta is None else beta - rest * scale
    outputs = view.unlay(centred * view.spread(scale) + view.spread(offset), inputs)
    saved = Saved(count, shift, rest, inverse, centred if plan.keep_centred else None)
    return (ops.cast(outputs, plan.dtype), mean, variance, count), saved


def backward(plan, inputs, saved, upstream, gamma=None, beta=None, weights=None, run=partial):
    """Turn gradients of every output into gradients of every argument.

    With `c = x - mean`, `i = rsqrt(variance + epsilon)` and n samples a channel:

        d_beta = sum(dy)
        d_gamma = sum(dy * c) * i
        level = gamma * i * d_beta - d_mean
        slope = gamma * i ** 2 * d_gamma - 2 * d_variance
        dx = dy * gamma * i - (level + c * slope) / n

    where the last term belongs to the samples that counted in the statistics. The mean's part
    in the variance has no gradient, for `sum(c)` is zero. Replicas add up level and slope; d_gamma
    and d_beta stay local, for the optimizer adds those up. In the code below c is `x - shift`, and
    `rest` makes up for the difference.

    What was saved are the forward pass' own tensors, so each of these lines can be differentiated
    again through them.

    Args:
        plan: that of the forward pass.
        inputs: the forward pass', as are gamma, beta and weights.
        saved: what `forward` left.
        upstream: gradients of outputs, mean, variance and count. That of the count is ignored: a
            number of samples does not depend on their values.
        gamma: tensor of shape (channels,), or None.
        beta: not needed.
        weights: tensor or None.
        run: as in `forward`.

    Returns:
        The gradients of inputs, gamma and beta.
    """
    plan = _told_of(plan, weights)
    d_outputs, d_mean, d_variance, _ = upstream
    given = inputs, saved, d_outputs, gamma
    if not plan.synchronized:
        return run(_project_and_propagate, plan)(*given, weights, d_mean, d_variance)
    d_gamma, d_beta, *totals = run(_project, plan)(*given, d_mean, d_variance)
    level, slope = ops.unstack(sum_over_replicas(ops.stack(totals)), 2)
    return run(_propagate, plan)(*given, weights, level, slope), d_gamma, d_beta


def _project_and_propagate(plan, inputs, saved, d_outputs, gamma, weights, d_mean, d_variance):
    scale = _scale(gamma, saved)
    given = inputs, saved, d_outputs, scale
    d_gamma, d_beta, level, slope = _project_scaled(plan, *given, d_mean, d_variance)
    return _propagate_scaled(plan, *given, weights, level, slope), d_gamma, d_beta


def _project(plan, inputs, saved, d_outputs, gamma, d_mean, d_variance):
    scale = _scale(gamma, saved)
    return _project_scaled(plan, inputs, saved, d_outputs, scale, d_mean, d_variance)


def _propagate(plan, inputs, saved, d_outputs, gamma, weights, level, slope):
    scale = _scale(gamma, saved)
    return _propagate_scaled(plan, inputs, saved, d_outputs, scale, weights, level, slope)


def _project_scaled(plan, inputs, saved, d_outputs, scale, d_mean, d_variance):
    """Return the gradients of gamma and beta, and what was called level and slope above."""
    view, upstream = plan.view, _lay(plan.view, d_outputs)
    d_beta = view.total(upstream)
    projected = view.total(upstream * _centred(plan, inputs, saved)) - saved.rest * d_beta
    d_gamma = projected * saved.inverse
    level, slope = scale * d_beta, scale * saved.inverse * d_gamma
    if not plan.outputs_only:
        level, slope = level - d_mean, slope - 2 * d_variance
    return _per_channel(d_gamma), _per_channel(d_beta), level, slope


def _propagate_scaled(plan, inputs, saved, d_outputs, scale, weights, level, slope):
    """Return the gradient of the inputs."""
    view, count = plan.view, at_least_one(saved.count)
    slope = slope / count
    level = level / count - saved.rest * slope
    through = _centred(plan, inputs, saved) * view.spread(slope) + view.spread(level)
    d_inputs = _lay(view, d_outputs) * view.spread(scale)
    d_inputs = d_inputs - keep(through, _lay_weights(plan, weights))
    return ops.cast(view.unlay(d_inputs, inputs), inputs.dtype)


def _scale(gamma, saved):
    return saved.inverse if gamma is None else gamma * saved.inverse


def _centred(plan, inputs, saved):
    """Return `x - shift`, in the view's shape."""
    if saved.centred is not None:
        return saved.centred
    return _lay(plan.view, inputs) - plan.view.spread(saved.shift)


def _lay(view, tensor):
    return view.lay(ops.cast(tensor, statistics_dtype(tensor.dtype)))


def _per_channel(gradient):
    """Add up the gradients of a parameter that several ghost batches share."""
    return gradient if gradient.ndim == 1 else ops.sum(gradient, 0)


def _told_of(plan, weights):
    """Note whether weights tell channels apart: inside what is compiled for both, none can see."""
    if weights is None:
        return plan
    return replace(plan, by_channel=weights.shape[plan.view.axis] != 1)


def _lay_weights(plan, weights):
    if weights is None:
        return None
    return (plan.view if plan.by_channel else replace(plan.view, channels=1)).lay(weights)
