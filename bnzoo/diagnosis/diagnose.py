"""From a model, and data if there is some, to what is wrong with its batch normalization."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from bnzoo.diagnosis import statistics, weights
from bnzoo.diagnosis.measuring import Measured, measure
from bnzoo.diagnosis.places import Place, places
from bnzoo.diagnosis.record import TITLES, Diagnosis, Finding
from bnzoo.diagnosis.summary import record_of
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
    return Diagnosis(tuple(findings), record_of(model, folds, batches, measured, findings))


def _findings(
    model: keras.Model, folds: list[Folding], measured: Measured | None, num_replicas: int
) -> list[Finding]:
    found, where = [statistics.modes(measured)] if measured else [], places(model)
    for one in folds:
        place = where.get(id(one.layer), Place())
        broken = weights.not_finite(one.layer)
        # All else follows from a broken statistic.
        of_layer = [broken] if broken else _of_layer(one.layer, place, model, measured)
        if measured:
            of_layer += _of_data(one.layer, measured, num_replicas)
        of_layer.append(weights.not_folded(one))
        found += [item and dataclasses.replace(item, layer=one.path) for item in of_layer]
    return [one for one in found if one is not None]


def _of_data(layer: Layer, measured: Measured, num_replicas: int) -> list[Finding | None]:
    if id(layer) not in measured.bad_batches:  # it has a call of its own
        return []
    population = measured.populations.get(id(layer))
    bad = measured.bad_batches[id(layer)]
    found = [statistics.not_measured(population, bad)]
    if population is not None:
        size, number = measured.batch_size, measured.num_batches
        found.append(statistics.small_batch(population, size, number, num_replicas))
    return found


def _of_layer(
    layer: Layer, place: Place, model: keras.Model, measured: Measured | None
) -> list[Finding | None]:
    population = measured.populations.get(id(layer)) if measured else None
    far = _far(layer, measured)
    is_far = None if population is None else far is not None and far.level == "problem"
    return [
        far,
        weights.few_steps(layer, _steps(model), is_far, far is None or far.command is not None),
        weights.exploding(layer, place, population),
        weights.far_from_zero(layer, population),
        weights.dead_channels(layer, place, population),
        weights.last_layer(place, model),
        weights.frozen(layer, model),
        weights.redundant_bias(layer, place),
        weights.own_call(layer),
    ]


def _far(layer: Layer, measured: Measured | None) -> Finding | None:
    if measured is None or id(layer) not in measured.populations:
        return None
    return statistics.far_statistics(
        measured.populations[id(layer)],
        measured.distances[id(layer)],
        measured.costs.get(id(layer)),
        measured,
    )


def _steps(model: keras.Model) -> int | None:
    """Return how many steps the optimizer has taken; None where nothing is known."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return None
    # Batch normalization moves with each batch, also where gradients are gathered over several.
    gathered = getattr(optimizer, "inner_optimizer", optimizer).gradient_accumulation_steps or 1
    return int(keras.ops.convert_to_numpy(optimizer.iterations)) * gathered


def _rank(finding: Finding) -> tuple:
    size = max((abs(value) for value in finding.numbers.values()), default=0.0)
    if finding.kind == "far_statistics":
        size = finding.numbers["distance"] + 1e3 * finding.numbers.get("loss", 0.0)
    return finding.level != "problem", list(TITLES).index(finding.kind), -np.nan_to_num(size)
