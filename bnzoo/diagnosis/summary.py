"""A diagnosis as JSON has it: the verdict, the modes, the findings, each layer, and one picture."""

from typing import Any

import keras
import numpy as np

from bnzoo.diagnosis.measuring import Measured, histogram
from bnzoo.diagnosis.record import Finding, place_of
from bnzoo.diagnosis.statistics import SOMEWHAT_FAR
from bnzoo.layers import BatchNormalization
from bnzoo.reporting.formatting import value_range
from bnzoo.surgery.batches import Batches
from bnzoo.surgery.fold import Folding

ONE_MORE = "One more kind of problem below."


def record_of(
    model: keras.Model,
    folds: list[Folding],
    batches: Batches | None,
    measured: Measured | None,
    findings: list[Finding],
) -> dict[str, Any]:
    """Return all that a page or a program needs to know; what is not finite is None.

    Args:
        model: the model.
        folds: of each of its layers.
        batches: the data; None without.
        measured: what they told; None without.
        findings: the worst first.
    """
    tallies = (
        {
            "inference": measured.inference,
            "training": measured.training,
            "recalibrated": measured.recalibrated,
        }
        if measured
        else {}
    )
    return {
        "kind": "diagnosis",
        "model": model.name,
        "source": None,
        "data": None,
        "examples": measured.inference.examples if measured else None,
        "batch_size": measured.batch_size if measured else None,
        "values": _values(batches) if measured else None,
        "verdict": _verdict(folds, batches, measured, findings),
        "modes": {
            name: {key: _finite(value) for key, value in tally.means.items()} if tally else {}
            for name, tally in tallies.items()
        },
        "findings": [_finding_record(one) for one in findings],
        "layers": [_layer_record(one, measured, findings) for one in folds],
        "picture": _picture(model, folds, batches, measured, findings) if measured else None,
    }


def _verdict(
    folds: list[Folding],
    batches: Batches | None,
    measured: Measured | None,
    findings: list[Finding],
) -> str:
    problems = [one for one in findings if one.level == "problem"]
    if not folds:
        return "There is no batch normalization in this model."
    if not problems:
        return (
            "The batch normalization of this model is healthy."
            if measured and measured.populations
            else "The weights show no problem. The data said nothing: see below."
            if measured
            else "The weights show no problem. With data (--data) there is more to see."
        )
    worst, others = problems[0], len({one.kind for one in problems}) - 1
    place = place_of([one for one in problems if one.kind == worst.kind])
    told = [f"{worst.title}{place}.", worst.what, worst.what_to_do]
    if measured and worst.command and worst.kind != "modes":  # which says so itself
        told.append(_change(measured))
    if measured and {"modes", "far_statistics"} & {one.kind for one in problems}:
        told.append(_scaling(measured, _values(batches)))
    if others:
        told.append(f"{others} more kinds of problem below." if others > 1 else ONE_MORE)
    return " ".join(part for part in told if part)


def _change(measured: Measured) -> str:
    """Say what recalibration changes, for the better or not."""
    after = measured.recalibrated.means if measured.recalibrated else {}
    before = measured.inference.means
    names = [name for name in after if name == "loss" or "accuracy" in name]
    told = [f"{name} {before[name]:.3g} becomes {after[name]:.3g}" for name in names]
    return f"With recalibrated statistics {', '.join(told)}." if told else ""


def _scaling(measured: Measured, values: list[float] | None) -> str:
    """Doubt the data where only what normalizes first is off: behind it, their scale is gone."""
    far = [one.mean >= SOMEWHAT_FAR for one in measured.distances.values()]
    if len(far) < 2 or not far[0] or any(far[1:]):
        return ""
    has = f"; here they have {value_range(values)}" if values else ""
    return (
        "Only the layer nearest to the input is off: first make sure that the data are scaled as "
        f"in training{has}."
    )


def _values(batches: Batches) -> list[float] | None:
    """Return the least and the largest value of the inputs, where these are one array."""
    inputs = [batch.x for batch in batches]
    if keras.tree.is_nested(inputs[0]):
        return None
    arrays = [np.asarray(one) for one in inputs if not hasattr(one, "flat_values")]
    arrays = [one for one in arrays if one.dtype.kind in "biuf" and one.size]
    if not arrays:
        return None
    ends = [float(min(map(np.min, arrays))), float(max(map(np.max, arrays)))]
    return ends if np.isfinite(ends).all() else None


def _finding_record(one: Finding) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "title": one.title,
        "level": one.level,
        "layer": one.layer,
        "what": one.what,
        "numbers": {name: _finite(value) for name, value in one.numbers.items()},
        "what_to_do": one.what_to_do,
        "command": one.command,
    }


def _layer_record(
    fold: Folding, measured: Measured | None, findings: list[Finding]
) -> dict[str, Any]:
    layer, mine = fold.layer, {one.kind: one for one in findings if one.layer == fold.path}
    distance = measured.distances.get(id(layer)) if measured else None
    population = measured.populations.get(id(layer)) if measured else None
    noise = None if population is None else np.sqrt(np.mean(np.square(population.noise)))
    return {
        "name": fold.path,
        "class": "bnzoo" if isinstance(layer, BatchNormalization) else "keras",
        "channels": layer.moving_mean.shape[0],
        "momentum": layer.momentum,
        "frozen": mine["frozen"].what if "frozen" in mine else None,
        "distance": _finite(distance.mean) if distance else None,
        "noise": _finite(noise),
        "cost": _finite(measured.costs.get(id(layer))) if measured else None,
        "dead": int(mine["dead_channels"].numbers["dead"]) if "dead_channels" in mine else 0,
        "folds": fold.text,
    }


def _picture(
    model: keras.Model,
    folds: list[Folding],
    batches: Batches,
    measured: Measured,
    findings: list[Finding],
) -> dict[str, Any] | None:
    """Return the channel that is farthest off, in the layer of the worst finding of that kind."""
    far = [one.layer for one in findings if one.kind == "far_statistics"]
    if not far:
        return None
    layer = next(one.layer for one in folds if one.path == far[0])
    population, channel = measured.populations[id(layer)], measured.distances[id(layer)].worst
    drawn = histogram(model, batches, population, channel)
    if drawn is None:
        return None
    moving = [float(one.numpy()[channel]) for one in (layer.moving_mean, layer.moving_variance)]
    if not np.isfinite(moving).all():
        return None
    data = [float(one[channel]) for one in (population.mean, population.variance)]
    return {
        "layer": far[0],
        "channel": channel,
        "density": [float(value) for value in drawn[0]],
        "edges": [float(value) for value in drawn[1]],
        "moving": dict(zip(("mean", "variance"), moving, strict=True)),
        "data": dict(zip(("mean", "variance"), data, strict=True)),
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
