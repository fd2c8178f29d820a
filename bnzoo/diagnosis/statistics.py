"""What a data set tells of batch normalization: modes, moving statistics, noise of batches."""

import numpy as np

from bnzoo.diagnosis.measuring import Distance, Measured, Tally
from bnzoo.diagnosis.record import RECALIBRATE, Finding
from bnzoo.surgery.population import Population, is_frozen

FAR = 1.0
"""Standard deviations from which on moving statistics alone are a problem."""

SOMEWHAT_FAR = 0.3
"""From which on they are one where inference is worse than training mode."""

NOISY = 0.4
"""Standard deviations by which the mean of a batch may be off: that of about six samples."""

MORE_LOSS = 0.2
"""Share of the loss, or of the accuracy, by which inference may be worse."""

POINT = 0.01
"""Accuracy that must be lost at least."""

DIFFERENT = 1.0
"""Root mean square by which outputs may differ between the modes, in their own spread."""


def is_worse(one: Tally, other: Tally) -> bool:
    """Tell whether a model is worse in one mode than in another, by more than chance.

    The loss must be larger by `MORE_LOSS`, and by three standard errors of the mean difference of
    the batches; and where an accuracy is measured, a point of it must be lost. Or an accuracy must
    be lower by `MORE_LOSS`, a point and three standard errors: of a network that has only begun to
    learn it says more than the loss.
    """
    if not one.means or not np.isfinite(other.means["loss"]):
        return False
    if not np.isfinite(one.means["loss"]):
        return True
    gap = one.losses - other.losses
    error = gap.std(ddof=1) / np.sqrt(gap.size) if gap.size > 1 else 0.0
    is_larger = gap.mean() > max(MORE_LOSS * abs(other.losses.mean()), 3 * error)
    shares = [(one.means[name], other.means[name]) for name in one.means if "accuracy" in name]
    if any(_is_lower(*pair, other.examples) for pair in shares):
        return True
    return bool(is_larger and (not shares or max(high - low for low, high in shares) > POINT))


def _is_lower(low: float, high: float, examples: int) -> bool:
    chance = np.sqrt(2 * max(high * (1 - high), 0) / examples)
    return high - low > max(MORE_LOSS * high, POINT, 3 * chance)


def disagree(one: Tally, other: Tally) -> bool:
    """Tell whether a model is worse in one mode than in another; without a loss, if it differs."""
    if one.means:
        return is_worse(one, other)
    difference = output_difference(one, other)
    return difference is not None and difference >= DIFFERENT


def modes(measured: Measured) -> Finding | None:
    """Compare the model in inference with how it is trained, on the same examples."""
    inference, training = measured.inference, measured.training
    if not disagree(inference, training):
        return None
    if inference.means:
        found = (
            f"the loss is {inference.means['loss']:.3g} in inference, and "
            f"{training.means['loss']:.3g} where each batch is normalized by itself, as in training"
            f"{_accuracies(inference, training)}"
        )
        numbers = {f"inference_{name}": value for name, value in inference.means.items()}
        numbers |= {f"training_{name}": value for name, value in training.means.items()}
    else:
        difference = output_difference(inference, training)
        found = (
            "the outputs in inference differ from those of training mode by "
            f"{difference:.2g} times their own spread"
            if np.isfinite(difference)
            else "there are outputs that are finite in training mode, and not in inference"
        )
        numbers = {"output_difference": difference}
    what_to_do, command = _repair(measured)
    text = f"On the same examples {found}."
    return Finding("modes", "problem", text, what_to_do, numbers, command)


def _accuracies(one: Tally, other: Tally) -> str:
    names = [name for name in one.means if "accuracy" in name]
    if not names:
        return ""
    shares = [100 * tally.means[names[0]] for tally in (one, other)]
    return f"; the {names[0]} {shares[0]:.1f} % and {shares[1]:.1f} %"


def _repair(measured: Measured) -> tuple[str, str | None]:
    """Say what helps: recalibrated statistics, where these do."""
    repaired = measured.recalibrated
    if repaired is not None and disagree(repaired, measured.training):
        loss = (
            f" (loss {repaired.means['loss']:.3g}{_accuracy(repaired)})" if repaired.means else ""
        )
        return (
            f"Recalibrated statistics alone do not repair it{loss}: train on with larger "
            "batches, with group normalization (bnzoo.replace_batch_norm(model, 'group_norm')), or "
            "with batch normalization frozen.",
            None,
        )
    reached = ""
    if repaired is not None and repaired.means:
        reached = f": the loss is {repaired.means['loss']:.3g} then{_accuracy(repaired)}"
    return f"Recalibrate the moving statistics{reached}.", RECALIBRATE


def _accuracy(tally: Tally) -> str:
    names = [name for name in tally.means if "accuracy" in name]
    return f", the {names[0]} {100 * tally.means[names[0]]:.1f} %" if names else ""


def output_difference(one: Tally, other: Tally) -> float | None:
    """Return the root mean square difference of outputs, by their spread over examples.

    Examples whose other outputs are not finite are left out; it is infinite where one's are not.
    """
    if one.outputs is None or other.outputs is None:
        return None
    usable = np.isfinite(other.outputs).all(axis=1)
    ones, others = one.outputs[usable], other.outputs[usable]
    if not usable.any() or not np.isfinite(ones).all():
        return float("inf") if usable.any() else None
    spread = np.sqrt(np.mean(np.var(others, axis=0)))
    difference = np.sqrt(np.mean(np.square(ones - others)))
    return float(difference / spread) if spread > 0 else None


def far_statistics(
    found: Population, distance: Distance, cost: float | None, measured: Measured
) -> Finding | None:
    """Find moving statistics that are not those of the data."""
    layer = found.layer
    if not distance.mean >= SOMEWHAT_FAR:
        return None
    is_untouched = (
        not layer.moving_mean.numpy().any() and (layer.moving_variance.numpy() == 1).all()
    )
    worse, repaired = disagree(measured.inference, measured.training), measured.recalibrated
    is_problem, command = distance.mean >= FAR or worse, RECALIBRATE
    what_to_do = "Recalibrate it." if is_problem else "Less than a problem; recalibrating mends it."
    if repaired is not None and is_worse(repaired, measured.inference):
        before, after = (one.means["loss"] for one in (measured.inference, repaired))
        what_to_do = (
            f"Do not recalibrate it on this data: the loss is {after:.3g} then, not {before:.3g}. "
            "See whether the data is like that of training, and train on."
        )
        command = None
    if is_frozen(layer):
        is_problem, command = is_untouched, None
        what_to_do = (
            "It was frozen before it saw any data: unfreeze it, recalibrate, and freeze it again."
            if is_untouched
            else "Nothing, if the rest was trained on such data; else recalibrate it, unfrozen."
        )
    mean_off, ratio = (
        float(np.sqrt(np.mean(np.square(values))))
        for values in (distance.mean_off, np.log(distance.spread_ratio))
    )
    costs = "" if cost is None else f" They cost {_short(cost)} of loss by themselves."
    if cost is not None and cost < 0:
        costs = f" By themselves they lower the loss by {_short(-cost)}."
    return Finding(
        "far_statistics",
        "problem" if is_problem else "note",
        f"The moving mean is off by {_short(mean_off)} standard deviations, and the moving "
        f"standard deviation by a factor of {_short(np.exp(ratio))} (root mean square over "
        f"channels).{costs}",
        what_to_do,
        {"distance": distance.mean, "mean_off": mean_off, "spread_factor": float(np.exp(ratio))}
        | ({"loss": cost} if cost is not None else {}),
        command,
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.2g}"


def not_measured(found: Population | None, bad_batches: int) -> Finding | None:
    """Tell of a layer that the data says nothing of, or not of every batch or channel."""
    unseen = None if found is None else int((found.count == 0).sum())
    if found is None and not bad_batches:
        what = "The model did not use it on this data, so that only its weights were looked at."
        what_to_do = (
            "Nothing, if it has no use in inference; of a model that compiles its own call "
            "(tf.function), diagnose a new one."
        )
        return Finding("not_measured", "note", what, what_to_do)
    if not bad_batches and not unseen:
        return None
    if found is None or unseen:
        level, share = "problem", "No batch has"
        where = f" in {unseen} of {found.count.size} channels" if found else ""
    else:
        level, where = "note", ""
        share = f"{bad_batches} of {bad_batches + found.batches} batches have no"
    return Finding(
        "not_measured",
        level,
        f"{share} finite statistics{where}: what reaches it is NaN, infinite, empty or masked.",
        "Look for NaN in the data, and in the weights of the layers before it.",
        {"bad_batches": float(bad_batches)},
    )


def small_batch(
    found: Population, batch_size: int, num_batches: int, num_replicas: int
) -> Finding | None:
    """Find batches whose mean is mostly chance.

    Nothing is said of a layer that is used more than once for each batch, on several inputs or time
    steps: between them its means differ for other reasons.
    """
    layer = found.layer
    is_used_again = found.batches + found.bad_batches > num_batches
    if is_frozen(layer) or found.batches < 2 or is_used_again:
        return None
    ghosts = getattr(layer, "virtual_batch_size", None)
    size = min(ghosts or batch_size, batch_size)
    if not ghosts and not layer.synchronized:
        size = max(1, batch_size // num_replicas)
    noise = float(np.sqrt(np.mean(np.square(found.noise)) * batch_size / size))
    if noise < NOISY:
        return None
    where = "" if size == batch_size else f" in parts of {size} (ghosts, or one for each replica)"
    return Finding(
        "small_batch",
        "problem",
        f"With batches of {batch_size}{where} the mean of a batch is off by {noise:.2g} standard "
        "deviations: that is noise in training, which inference does not have.",
        "Use larger batches, synchronized=True over replicas, group normalization "
        "(bnzoo.replace_batch_norm(model, 'group_norm')), or freeze it.",
        {"noise": noise, "batch_size": float(size)},
    )
