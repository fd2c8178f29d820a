"""The one door through which the layer normalises a training batch."""

from functools import partial
from typing import NamedTuple

import keras
from keras import ops

from bnzoo.ops import compiled, formula, fused, rules, tracing
from bnzoo.ops.by_size import by_size
from bnzoo.ops.ghosts import normalize_ghosts
from bnzoo.ops.gradient import Way, differentiable
from bnzoo.ops.masks import mask_weights, without_masked_nan
from bnzoo.ops.moving_average import Usable
from bnzoo.ops.normalize import normalize
from bnzoo.ops.shapes import cast_if_given, statistics_dtype


class Settings(NamedTuple):
    """What a layer decides about its batches.

    Attributes:
        axis: the channel axis, in [-ndim, ndim).
        epsilon: added to the variance, at least 0 (default: Keras').
        dtype: dtype of the outputs.
        implementation: `"auto"`, `"reference"`, `"fused"` or `"xla"`.
        synchronized: take the statistics over all replicas of a `tf.distribute` strategy.
        virtual_batch_size: examples of a ghost batch, or None.
        unbiased: divide the returned variance by n - 1 (and by n where n is 1).

    Example:
        >>> Settings(axis=1)._replace(implementation="xla").implementation
        'xla'
    """

    axis: int = -1
    epsilon: float = 1e-3
    dtype: str = "float32"
    implementation: str = "auto"
    synchronized: bool = False
    virtual_batch_size: int | None = None
    unbiased: bool = False


def choose_implementation(inputs, masked: bool, settings: Settings, ghosts: bool = False):
    """Say which way a call goes, and why.

    Args:
        inputs: tensor, or anything with a shape and a dtype; None where a size is unknown.
        masked: the call has a mask.
        settings: `Settings`.
        ghosts: statistics are taken for each entry of the first axis.

    Returns:
        A `rules.Call`, and a `rules.Choice`.

    Raises:
        ValueError: the settings force the fused kernel upon a call that it cannot take.

    Example:
        >>> inputs = keras.Input((32, 32, 3))
        >>> call, choice = choose_implementation(inputs, False, Settings())
        >>> call.channels_last, choice.implementation
        (True, 'reference')
    """
    ghosts = ghosts or settings.virtual_batch_size is not None
    call = _describe(inputs, settings, masked, ghosts)
    if settings.implementation == "auto":
        return call, rules.choose(call)
    # No `:=` in what a user's tf.function calls: AutoGraph warns that it cannot convert it.
    obstacle = rules.why_not_fused(call) if settings.implementation == "fused" else None
    if obstacle:
        raise ValueError(
            f"Received implementation='fused' for inputs of shape {call.shape} and dtype "
            f"{call.dtype}, which the fused kernel cannot take: {obstacle}. "
            "Use implementation='auto', or 'reference' or 'xla'."
        )
    return call, rules.Choice(settings.implementation, "the layer was told so")


def normalize_batch(
    inputs, gamma=None, beta=None, mask=None, otherwise=None, settings=None, **changes
):
    """Normalise a batch by its own statistics, by the way that suits it.

    Args:
        inputs: float tensor of shape (batch, ..., channels, ...).
        gamma: tensor of shape (channels,), or None: 1.
        beta: tensor of shape (channels,), or None: 0.
        mask: bool tensor with as many dimensions as `inputs`, each equal or 1; or None. False keeps
            a sample out of the statistics; its output is still normalised, and where it is NaN or
            infinite it is taken as 0.
        otherwise: mean and variance to return for a batch that is empty or whose statistics are not
            finite, tensors of shape (channels,); or None: zeros; or `AS_THEY_ARE`.
        settings: `Settings`, or None for the defaults.
        **changes: single settings instead.

    Returns:
        outputs, of the shape of `inputs` and of `dtype`; mean, variance (divided by n, or n - 1 if
        unbiased), each of shape (channels,), and count n, of shape () or (channels,), 0 where
        `otherwise` stands; all float64 for float64 inputs, else float32. The three are for moving
        averages: no gradient flows through them. Of ghost batches they are the means over ghosts,
        weighted by count.

    Raises:
        ValueError: the settings force the fused kernel upon inputs that it cannot take.

    Example:
        >>> x = ops.array([[0.0, 2.0], [4.0, 2.0]])
        >>> outputs, mean, variance, count = normalize_batch(x, epsilon=0.0001, dtype="float16")
        >>> ops.convert_to_numpy(outputs).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
        >>> ops.convert_to_numpy(variance).tolist()
        [4.0, 0.0]
    """
    settings = (settings or Settings())._replace(**changes)
    if otherwise:
        otherwise = [cast_if_given(value, statistics_dtype(inputs.dtype)) for value in otherwise]
    if settings.virtual_batch_size is None:
        call, choice = choose_implementation(inputs, mask is not None, settings)
        usable = Usable(otherwise, settings.unbiased, maybe_empty=_maybe_empty(call))
        way = _way(call, choice, settings, usable)
        outputs, *statistics = _run(way, inputs, gamma, beta, mask, settings)
    else:
        usable = Usable(otherwise, settings.unbiased)
        outputs, *statistics = normalize_ghosts(
            partial(batch_norm, ghosts=True), inputs, gamma, beta, mask, settings, usable
        )
    return outputs, *(ops.stop_gradient(value) for value in statistics)


def batch_norm(inputs, gamma, beta, mask, settings: Settings, ghosts: bool = False):
    """Normalise a batch by its own statistics, whatever they are; all of it differentiable.

    Args:
        inputs: as in `normalize_batch`, as are gamma, beta and mask; with ghosts, of shape
            (ghosts, batch, ..., channels, ...).
        gamma: tensor of shape (channels,), or None.
        beta: tensor of shape (channels,), or None.
        mask: tensor or None.
        settings: `Settings`; their axis counts the ghosts as well.
        ghosts: take statistics for each entry of the first axis.

    Returns:
        outputs, mean, variance (divided by n) and count; with ghosts the statistics have the shape
        (ghosts, channels). Gradients flow through mean and variance, but for the fused kernel,
        which also puts zeros for a variance that is not finite.

    Source:
        Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.1, Algorithm 1, and the gradients
        below it.

    Example:
        >>> x = ops.array([[1.0], [3.0]])
        >>> outputs, mean, variance, count = batch_norm(x, None, None, None, Settings(epsilon=0.0))
        >>> ops.convert_to_numpy(outputs).ravel().tolist(), float(count)
        ([-1.0, 1.0], 2.0)
    """
    call, choice = choose_implementation(inputs, mask is not None, settings, ghosts)
    return _run(_way(call, choice, settings), inputs, gamma, beta, mask, settings)


def _run(way, inputs, gamma, beta, mask, settings):
    dtype = statistics_dtype(inputs.dtype)
    axis = settings.axis % len(inputs.shape)
    weights = None if mask is None else mask_weights(mask, inputs, axis, dtype)
    inputs = without_masked_nan(inputs, weights)
    tensors = {
        "gamma": cast_if_given(gamma, dtype),
        "beta": cast_if_given(beta, dtype),
        "weights": weights,
    }
    return differentiable(way, inputs, **tensors)


def normalize_by_moving(inputs, mean, variance, gamma=None, beta=None, settings=None, **changes):
    """Normalise by given statistics, as inference does.

    Args:
        inputs: float tensor of shape (batch, ..., channels, ...).
        mean: tensor of shape (channels,), as are variance, gamma and beta.
        variance: at least 0.
        gamma: or None: 1.
        beta: or None: 0.
        settings: `Settings`, or None for the defaults.
        **changes: single settings instead.

    Returns:
        `(x - mean) * (gamma * rsqrt(variance + epsilon)) + beta`, in the shape of `inputs`.

    Example:
        >>> x, mean, variance = ops.array([[3.0], [7.0]]), ops.array([5.0]), ops.array([4.0])
        >>> y = normalize_by_moving(x, mean, variance, epsilon=0.0)
        >>> ops.convert_to_numpy(y).ravel().tolist()
        [-1.0, 1.0]
    """
    settings = (settings or Settings())._replace(**changes)
    call = _describe(inputs, settings)
    dtype = statistics_dtype(call.dtype)
    tensors = [cast_if_given(tensor, dtype) for tensor in (mean, variance, gamma, beta)]
    if settings.implementation in ("auto", "fused") and rules.infer_fused(call):
        options = fused.Options(call.axis, settings.epsilon, settings.dtype)
        return fused.infer(options, inputs, *tensors)
    inputs = ops.cast(inputs, dtype)
    outputs = normalize(inputs, *tensors, epsilon=settings.epsilon, axis=settings.axis)
    return ops.cast(outputs, settings.dtype)


def _describe(inputs, settings, masked=False, ghosts=False):
    return rules.Call(
        backend=keras.backend.backend(),
        xla=tracing.inside_xla(),
        gpu=tracing.on_gpu(),
        shape=tuple(inputs.shape),
        axis=settings.axis % len(inputs.shape),
        dtype=keras.backend.standardize_dtype(inputs.dtype),
        masked=masked,
        synchronized=settings.synchronized,
        ghosts=ghosts,
    )


def _way(call, choice, settings, usable=None):
    if choice.implementation == "reference":
        return _plain_way(call, settings, usable)
    if choice.implementation == "fused":
        options = fused.Options(
            call.axis, settings.epsilon, settings.dtype, call.gpu, usable, rules.fold(call)
        )
        way = _bind(fused, options)
        if not choice.by_size:
            return way
        return by_size(rules.fused_from(call), way, _plain_way(call, settings, usable))
    inlined = call.xla and call.backend == "tensorflow"
    view, around = rules.xla_view(call if inlined else compiled.call_to_compile(call))
    plan = _plan(call, settings, view, usable, around=around)
    return _ending_in(usable, _bind(formula if inlined else compiled, plan))


def _maybe_empty(call):
    """Tell whether a channel may turn out to have no samples."""
    return call.masked or not call.elements


def _plain_way(call, settings, usable):
    # In float16 and bfloat16 this would be a float32 copy that waits for the backward pass.
    keep_centred = call.dtype == statistics_dtype(call.dtype)
    view, around = rules.plain_view(call)
    plan = _plan(call, settings, view, usable, around=around, keep_centred=keep_centred)
    return _ending_in(usable, _bind(formula, plan))


def _plan(call, settings, view, usable, **how):
    return formula.Plan(
        len(call.shape),
        view,
        settings.epsilon,
        settings.dtype,
        synchronized=settings.synchronized,
        outputs_only=usable is not None,
        **how,
    )


def _bind(module, how):
    return Way(*(partial(getattr(module, name), how) for name in Way._fields))


def _ending_in(usable, way):
    """Let a way's statistics pass through a function."""
    if usable is None:
        return way

    def forward(inputs, **tensors):
        (outputs, *statistics), saved = way.forward(inputs, **tensors)
        return (outputs, *usable(*statistics)), saved

    return way._replace(forward=forward)
