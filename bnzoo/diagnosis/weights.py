"""What the weights and the structure of a model tell of its batch normalization.

Where data were measured, a layer's population stands for its moving statistics.
"""

import keras
import numpy as np

from bnzoo.diagnosis.places import Place
from bnzoo.diagnosis.record import RECALIBRATE, Finding
from bnzoo.surgery.affine import to_float64
from bnzoo.surgery.fold import Folding
from bnzoo.surgery.population import KNOWN_CALLS, Population, is_frozen

SETTLED = 0.05
"""Moving statistics have settled when no more than this share of their initial values is left."""

NEAR_ZERO = 1e-3
"""Share of the largest gamma, and of epsilon, below which gamma and variance are as good as 0."""

EXPLODING = 1e6
"""Variance; standard deviations of networks that train are below a hundred."""

FARTHEST = {"float64": 1e12, "float32": 1e4, "float16": 100.0, "bfloat16": 12.0}
"""Standard deviations from zero: in float32 Keras' layer is off by 1e-2 there; in half precision
the inputs are rounded to a tenth of their spread."""

NEVER_POSITIVE = 5.0
"""Standard deviations below zero from which on a normal variable is hardly ever positive."""

Layer = keras.layers.BatchNormalization


def not_finite(layer: Layer) -> Finding | None:
    """Find NaN and infinity in the weights, and negative variances."""
    broken = {}
    for weight in layer.weights:
        values = to_float64(weight)
        bad = ~np.isfinite(values)
        if weight.name == "moving_variance":
            bad |= values < 0
        if bad.any():
            broken[weight.name] = int(bad.sum())
    if not broken:
        return None
    learned = {"gamma", "beta"} & broken.keys()
    repair = (
        "The learned weights are lost: go back to a checkpoint before it."
        if learned
        else "Recalibrate it; bnzoo's layer leaves batches with NaN out of its statistics."
    )
    named = " and ".join(broken)
    return Finding(
        "not_finite",
        "problem",
        f"{named} {'has' if len(broken) == 1 else 'have'} NaN, infinity or a negative variance in "
        f"{max(broken.values())} of {layer.moving_mean.shape[0]} channels, which spoils "
        "answers. One batch with NaN in it, or an empty one, does that to Keras' layer.",
        repair,
        {name: float(count) for name, count in broken.items()},
        None if learned else RECALIBRATE,
    )


def few_steps(
    layer: Layer, steps: int | None, is_far: bool | None, helps: bool = True
) -> Finding | None:
    """Find moving statistics that are still much of what they were before the optimizer's steps.

    That is a problem where they are far from the data's. Without data, it is one where they may be
    what a new layer has: a moving variance that began at 1 is at least the share of it that is
    left, momentum ** steps. One that is smaller came with the model, and nothing is known.

    Args:
        layer: the layer.
        steps: of its optimizer; None where it is not known.
        is_far: whether its moving statistics are far from the data's; None without data.
        helps: whether recalibration is advised.
    """
    momentum = layer.momentum
    if not steps or momentum is None or is_frozen(layer) or is_far is False:
        return None
    share = momentum**steps
    if is_far is None:
        is_one = type(layer.moving_variance_initializer) is keras.initializers.Ones
        least = np.nanmin(to_float64(layer.moving_variance), initial=np.inf)
        if not is_one or least < 0.99 * share:
            return None
    if share <= SETTLED:
        return None
    lower = np.floor(100 * SETTLED ** (1 / steps)) / 100
    return Finding(
        "few_steps",
        "problem",
        f"After {steps:,} steps with momentum {momentum:g}, the moving statistics are still "
        f"{100 * share:.0f} % what they were before.",
        f"{'Recalibrate; or train' if helps else 'Train'} on; or set the momentum to {lower:g} or "
        "lower next time.",
        {"steps": float(steps), "momentum": float(momentum), "initial_share": float(share)},
        RECALIBRATE if helps else None,
    )


def frozen(layer: Layer, model: keras.Model) -> Finding | None:
    """Tell that a layer is frozen, and what froze it."""
    if layer.momentum == 1.0 and not is_frozen(layer):
        why, undo = "its momentum is 1, so that its moving statistics never move", "Lower it"
    elif not is_frozen(layer):
        return None
    elif not layer.trainable:
        above = frozen_by(layer, model)
        why = f"trainable is False, of {above}" if above else "its trainable is False"
        undo = "bnzoo.unfreeze_batch_norm(model)"
    else:
        why, undo = "its frozen_statistics is True", "bnzoo.unfreeze_batch_norm(model)"
    return Finding(
        "frozen",
        "note",
        f"It uses its moving statistics in training too: {why}.",
        f"Nothing, if that is what you want; else {undo}.",
    )


def frozen_by(layer: Layer, model: keras.Model) -> str:
    """Name the outermost model or layer that holds a layer and is not trainable; else ""."""
    if not model.trainable:
        return "the whole model"
    for one in model._flatten_layers(include_self=False):
        inside = one._flatten_layers(include_self=False)
        if not one.trainable and any(part is layer for part in inside):
            return f"{one.name!r}, which it is in"
    return ""


def redundant_bias(layer: Layer, place: Place) -> Finding | None:
    """Find a bias that the subtraction of the mean takes away again."""
    if place.bias_of is None or is_frozen(layer):
        return None
    return Finding(
        "redundant_bias",
        "note",
        f"{place.bias_of!r} before it adds a bias, which subtracting the mean takes away again.",
        "Nothing for this model; next time use_bias=False there.",
    )


def last_layer(place: Place, model: keras.Model) -> Finding | None:
    """Find outputs that are normalized: their scale no longer depends on what was learned."""
    if not place.is_last:
        return None
    level = "problem" if model.compiled else "note"
    return Finding(
        "last_layer",
        level,
        "It normalizes the model's outputs: over each batch they have the mean beta and the "
        "standard deviation gamma, so that they depend on the rest of the batch in training.",
        "Take it out and train on; keep it only where outputs of unit variance are wanted, as in "
        "embeddings.",
    )


def dead_channels(layer: Layer, place: Place, found: Population | None) -> Finding | None:
    """Find channels that pass on nothing: by their weights and, with data, by what reaches them."""
    reasons = _dead(layer, place, found)
    dead = np.any(list(reasons.values()), axis=0)
    if not dead.any():
        return None
    share = float(dead.mean())
    told = ", ".join(f"{text} in {int(one.sum())}" for text, one in reasons.items() if one.any())
    return Finding(
        "dead_channels",
        "problem" if share >= 0.5 else "note",
        f"{int(dead.sum())} of {dead.size} channels pass on nothing: {told}.",
        "Train with a lower learning rate or less weight decay on gamma; where it stays so, the "
        "layer has more channels than it needs.",
        {"dead": float(dead.sum()), "share": share},
    )


def _dead(layer: Layer, place: Place, found: Population | None) -> dict[str, np.ndarray]:
    """Return which channels pass on nothing, by their reason, each of shape (channels,)."""
    ones = np.ones(layer.moving_mean.shape)
    gamma = to_float64(layer.gamma) if layer.scale else ones
    beta = to_float64(layer.beta) if layer.center else 0 * ones
    variance = to_float64(layer.moving_variance) if found is None else found.variance
    seen = True if found is None else found.count > 0
    reasons = {
        "gamma is near 0": np.abs(gamma) <= NEAR_ZERO * max(1.0, np.abs(gamma).max(initial=0.0)),
        "the variance is near 0": seen & (np.abs(variance) <= NEAR_ZERO * layer.epsilon),
    }
    if place.feeds_relu:
        never = beta < -NEVER_POSITIVE * np.abs(gamma) if found is None else found.maximum <= 0
        reasons["never positive before the ReLU"] = never
    return reasons


def exploding(layer: Layer, place: Place, found: Population | None) -> Finding | None:
    """Find inputs that have grown out of any measure on their way through the network."""
    variance = to_float64(layer.moving_variance) if found is None else found.variance
    largest = float(np.nan_to_num(variance, nan=0.0, posinf=0.0).max(initial=0.0))
    if largest < EXPLODING or place.is_first:
        return None
    return Finding(
        "exploding",
        "note" if place.is_first is None else "problem",
        f"The largest variance of a channel is {largest:.2g}. Those of networks that train well "
        f"are below a thousand{', but at their inputs' if place.is_first is None else ''}.",
        "Lower the learning rate, clip gradients, scale the inputs to about 1, and look at the "
        "initialization of the layers before it.",
        {"variance": largest},
    )


def far_from_zero(layer: Layer, found: Population | None) -> Finding | None:
    """Find means so large, measured by the spread, that rounding eats the spread."""
    mean = to_float64(layer.moving_mean) if found is None else found.mean
    variance = to_float64(layer.moving_variance) if found is None else found.variance
    with np.errstate(invalid="ignore"):
        ratio = np.abs(mean) / np.sqrt(np.maximum(variance, 0) + layer.epsilon)
    worst, dtype = float(np.nan_to_num(ratio).max(initial=0.0)), layer.compute_dtype
    if worst < FARTHEST[dtype]:
        return None
    return Finding(
        "far_from_zero",
        "problem",
        f"The mean of a channel is {worst:,.0f} standard deviations from zero, where {dtype} keeps "
        "too little of what is above it.",
        "Center the inputs of the network, or take out the layer that adds the offset; compute "
        "this layer in float32 or float64.",
        {"ratio": worst},
    )


def own_call(layer: Layer) -> Finding | None:
    """Tell that a layer computes something else than batch normalization."""
    if type(layer).call in KNOWN_CALLS:
        return None
    return Finding(
        "own_call",
        "note",
        f"{type(layer).__name__} has a call of its own: only its weights were looked at.",
        "Nothing.",
    )


def not_folded(fold: Folding) -> Finding | None:
    """Tell of a layer that export cannot merge into its neighbors, and why."""
    if fold.merged:
        return None
    return Finding(
        "not_folded", "note", f"Export: {fold.text}.", "Nothing: it costs a little in serving."
    )
