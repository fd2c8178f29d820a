"""From a model, and data if there is some, to what is wrong with its batch normalization."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from bnzoo.diagnosis import statistics, weights
from bnzoo.diagnosis.measuring import Measured, histogram, measure
from bnzoo.diagnosis.places import Place, places
from bnzoo.diagnosis.record import TITLES, Diagnosis, Finding
from bnzoo.layers import BatchNormalization
from bnzoo.surgery.batches import Batches
from bnzoo.surgery.fold import Folding, fold_report
from bnzoo.surgery.graph import check_model
from bnzoo.surgery.recalibrate import predict

Layer = keras.layers.BatchNormalization


def diagnose(
    model: keras.Model,
    dataset: Any = None,
    num_samples: int | None = None,
    *,
    batch_size: int = 32,
    num_replicas: int = 1,
    progress: Callable[[str, int], None] = lambda what, examples: None,
) -> Diagnosis:
    """Find what is wrong with the batch normalization of a model, and what repairs it.

    Without data, what the weights and the structure tell. With data, which should be the training
    data in random order and in batches as in training, each layer is also measured: in four passes
    or more, in inference mode, normalized by the batch, and with recalibrated statistics.

    Findings are of level `problem`, which costs something or will, or `note`. `bnzoo.diagnosis`
    `TITLES` lists them; thresholds stand beside the rules, in `bnzoo/diagnosis/`.

    Args:
        model: a Keras model of any kind. It is left as it was. Where it is compiled and the data
            has labels, loss and metrics are compared, else outputs.
        dataset: as `bnzoo.recalibrate` takes it; or None.
        num_samples: examples to use, in whole batches, which are kept in memory, so that all modes
            see the same ones; None for all. A few thousand are enough.
        batch_size: of arrays.
        num_replicas: among which a batch is divided in training (`tf.distribute`).
        progress: called after each batch with what is being measured, and the examples so far.

    Returns:
        A `Diagnosis`: its `findings`, the worst first; `print` shows a table, `to_json()` and
        `save_html(path)` write it.

    Raises:
        InputError: not a Keras model; or the data is empty, endless without `num_samples`, or not
            what the model or its loss takes.

    Example:
        >>> x = np.random.default_rng(0).normal(100, 5, (64, 3))
        >>> stack = [keras.Input((3,)), BatchNormalization(), keras.layers.Dense(2)]
        >>> for one in diagnose(keras.Sequential(stack), x).problems:
        ...     print(one.title)
        Training mode and inference mode disagree
        Moving statistics far from the data's
    """
    check_model(model)
    batches = None if dataset is None else Batches(dataset, num_samples, batch_size).kept()
    if batches and not model.built:
        predict(model, batches.first())
    folds = [one for one in fold_report(model) if one.layer.built]
    measured = measure(model, batches, progress) if batches and folds else None
    findings = sorted(_findings(model, folds, measured, num_replicas), key=_rank)
    return Diagnosis(tuple(findings), _record(model, folds, batches, measured, findings))


def _findings(
    model: keras.Model, folds: list[Folding], measured: Measured | None, num_replicas: int
) -> list[Finding]:
    found, where = [statistics.modes(measured)] if measured else [], places(model)
    for one in folds:
        place = where.get(id(one.layer), Place())
        of_layer = [
            *_of_weights(one.layer, place, model, measured),
            *_of_data(one.layer, measured, num_replicas),
            weights.not_folded(one),
        ]
        found += [item and dataclasses.replace(item, layer=one.path) for item in of_layer]
    return [one for one in found if one is not None]


def _of_weights(
    layer: Layer, place: Place, model: keras.Model, measured: Measured | None
) -> list[Finding | None]:
    population = measured.populations.get(id(layer)) if measured else None
    broken, far = weights.not_finite(layer), _far(layer, measured)
    if broken:  # all else follows from it
        return [broken]
    is_far = None if measured is None else far is not None and far.level == "problem"
    return [
        weights.few_steps(layer, _steps(model), is_far),
        weights.exploding(layer, place, population),
        weights.far_from_zero(layer, population),
        weights.dead_channels(layer, place, population),
        weights.last_layer(place, model),
        weights.frozen(layer, model),
        weights.redundant_bias(layer, place),
        weights.own_call(layer),
    ]


def _of_data(layer: Layer, measured: Measured | None, num_replicas: int) -> list[Finding | None]:
    if measured is None or id(layer) not in measured.populations:
        return []
    found = measured.populations[id(layer)]
    return [
        None if weights.not_finite(layer) else _far(layer, measured),
        statistics.small_batch(found, measured.batch_size, num_replicas),
    ]


def _far(layer: Layer, measured: Measured | None) -> Finding | None:
    if measured is None or id(layer) not in measured.populations:
        return None
    return statistics.far_statistics(
        measured.populations[id(layer)],
        measured.distances[id(layer)],
        measured.costs.get(id(layer)),
        statistics.is_worse(measured.inference, measured.training),
    )


def _steps(model: keras.Model) -> int | None:
    """Return how many steps the optimizer has taken; None where nothing is known."""
    optimizer = getattr(model, "optimizer", None)
    return int(optimizer.iterations.numpy()) if optimizer is not None else None


def _rank(finding: Finding) -> tuple:
    size = max((abs(value) for value in finding.numbers.values()), default=0.0)
    if finding.kind == "far_statistics":
        size = finding.numbers["distance"] + 1e3 * finding.numbers.get("loss", 0.0)
    return finding.level != "problem", list(TITLES).index(finding.kind), -np.nan_to_num(size)


def _record(
    model: keras.Model,
    folds: list[Folding],
    batches: Batches | None,
    measured: Measured | None,
    findings: list[Finding],
) -> dict[str, Any]:
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
        "verdict": _verdict(folds, measured, findings),
        "modes": {
            name: {key: _finite(value) for key, value in tally.means.items()} if tally else {}
            for name, tally in tallies.items()
        },
        "findings": [_of_finding(one) for one in findings],
        "layers": [_of_layer(one, measured, findings) for one in folds],
        "picture": _picture(model, folds, batches, measured, findings) if measured else None,
    }


def _verdict(folds: list[Folding], measured: Measured | None, findings: list[Finding]) -> str:
    problems = [one for one in findings if one.level == "problem"]
    if not folds:
        return "There is no batch normalization in this model."
    if not problems:
        return (
            "The batch normalization of this model is healthy."
            if measured
            else "The weights show no problem. With data (--data) there is more to see."
        )
    others = len({one.kind for one in problems}) - 1
    more = f" {others} more kinds of problem below." if others > 1 else ""
    more = " One more kind of problem below." if others == 1 else more
    return f"{problems[0].title}. {problems[0].what} {problems[0].what_to_do}{more}"


def _of_finding(one: Finding) -> dict[str, Any]:
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


def _of_layer(fold: Folding, measured: Measured | None, findings: list[Finding]) -> dict[str, Any]:
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
