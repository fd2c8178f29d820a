"""What a data set tells of a model: its layers' inputs, and its loss in each mode."""

import dataclasses
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from bnzoo.errors import InputError, first_sentence
from bnzoo.surgery.affine import to_float64
from bnzoo.surgery.batches import Batch, Batches
from bnzoo.surgery.population import Population, is_frozen, watchable_layers, watched
from bnzoo.surgery.recalibrate import assign, predict, state_kept

FEW = 512
"""Examples for what is measured layer by layer, and whose outputs are compared."""

FAR = 0.3
"""Standard deviations from which on moving statistics are worth a closer look."""

MOST_OUTPUTS = 1000
"""Numbers of each output of an example that are compared: maps of pixels have millions."""

LEAST_WIDTH = 1e-12
"""Of a histogram, by the largest value: its bins would be narrower than float64 has digits."""

MOST_COSTS = 3
"""Layers whose cost is measured, those farthest off: each is one more pass over a few examples."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """What a model made of the data in one mode.

    Attributes:
        examples: how many.
        means: loss and metrics that are one number, averaged over the batches by their examples;
            empty without labels or a loss.
        losses: of each batch.
        outputs: of the first examples, of shape (examples, -1); None with labels and loss, and
            where examples have no outputs of their own.
    """

    examples: int
    means: dict[str, float]
    losses: np.ndarray
    outputs: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What the data told.

    Attributes:
        examples: how many.
        batch_size: of the first batch.
        num_batches: how many.
        populations: of each layer that was measured, by its id: what it is given in training mode.
        bad_batches: by ids, how many batches gave a layer no finite statistics.
        distances: by the same ids, how far its moving statistics are from that.
        inference: the model as it is.
        training: every layer normalizes by the batch, but those that are frozen.
        recalibrated: with the populations' statistics; None where they cannot be had.
        costs: by ids, the loss that the moving statistics of one layer alone cost.
    """

    examples: int
    batch_size: int
    num_batches: int
    populations: dict[int, Population]
    bad_batches: dict[int, int]
    distances: dict[int, "Distance"]
    inference: Tally
    training: Tally
    recalibrated: Tally | None
    costs: dict[int, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Distance:
    """How far moving statistics are from those of the data; arrays have the shape (channels,).

    Attributes:
        mean_off: difference of the means, in standard deviations, of the larger of both.
        spread_ratio: the moving standard deviation by that of the data; both with epsilon.
    """

    mean_off: np.ndarray
    spread_ratio: np.ndarray

    @classmethod
    def of(cls, found: Population) -> "Distance":
        """Compare a layer's moving statistics with its population's."""
        layer = found.layer
        moving = np.sqrt(np.maximum(to_float64(layer.moving_variance), 0) + layer.epsilon)
        stddev = np.sqrt(found.variance + layer.epsilon)
        offset = to_float64(layer.moving_mean) - found.mean
        seen = found.count > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            mean_off, spread_ratio = offset / np.maximum(moving, stddev), moving / stddev
        return cls(np.where(seen, mean_off, 0.0), np.where(seen, spread_ratio, 1.0))

    @property
    def channels(self) -> np.ndarray:
        """Both together for each channel, the ratio as its logarithm."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.hypot(self.mean_off, np.log(self.spread_ratio))

    @property
    def mean(self) -> float:
        """The root mean square over channels."""
        return float(np.sqrt(np.mean(np.square(self.channels))))

    @property
    def worst(self) -> int:
        """The channel that is farthest off."""
        return int(np.argmax(np.nan_to_num(self.channels, nan=np.inf)))


def measure(model: keras.Model, batches: Batches, progress: Callable[[str, int], None]) -> Measured:
    """Run a model over data in inference, by the batch, and recalibrated; leave it as it was.

    Args:
        model: built.
        batches: the data.
        progress: called after each batch with what is being measured, and the examples so far.

    Raises:
        InputError: the data is empty, or the model or its loss cannot take it.
    """
    first, layers = batches.first(), watchable_layers(model)
    run = lambda what, part=batches: _tally(model, part, has_loss, progress, what)  # noqa: E731
    with state_kept(model):
        has_loss = _has_loss(model, first)
        inference = run("inference mode")
        with watched(model, layers, by_batch=True) as populations:
            training = run("training mode")
            every = populations()
        found = [one for one in every if one.batches]
        distances = {id(one.layer): Distance.of(one) for one in found}
        recalibrated, costs = None, {}
        free = [one for one in found if not is_frozen(one.layer)]
        if free:
            before = {id(one.layer): one.layer.get_weights() for one in free}
            for one in free:
                assign(one)
            recalibrated = run("recalibrated")
            if has_loss:
                costs = _costs(model, batches, free, before, distances, run)
    return Measured(
        inference.examples,
        first.size,
        sum(1 for _ in batches),
        {id(one.layer): one for one in found},
        {id(one.layer): one.bad_batches for one in every},
        distances,
        inference,
        training,
        recalibrated,
        costs,
    )


def _has_loss(model: keras.Model, first: Batch) -> bool:
    """Tell whether a model says what its loss on labels is: some train with more than `compile`."""
    if not model.compiled or first.y is None:
        return False
    try:
        return "loss" in _tested(model, first)
    except InputError:
        if getattr(model, "loss", None) is None:
            return False
        raise


def _costs(model, batches, free, before, distances, run) -> dict[int, float]:
    """Put back the old statistics of one layer after the other, and return what each costs."""
    few = Batches(_few(batches))
    base = run("layer by layer", few).means["loss"]
    far = [one for one in free if not distances[id(one.layer)].mean < FAR]
    worst = sorted(far, key=lambda one: np.nan_to_num(-distances[id(one.layer)].mean, nan=-np.inf))
    costs = {}
    for one in worst[:MOST_COSTS]:
        after = one.layer.get_weights()
        one.layer.set_weights(before[id(one.layer)])
        costs[id(one.layer)] = run("layer by layer", few).means["loss"] - base
        one.layer.set_weights(after)
    return costs


def _few(batches: Batches) -> list[tuple]:
    found, parts = 0, []
    for batch in batches:
        parts.append(tuple(batch))
        found += batch.size
        if found >= FEW:
            break
    return parts


def _tally(model, batches, has_loss, progress, what) -> Tally:
    logs, sizes, outputs, seen = [], [], [], 0
    for batch in batches:
        if has_loss:
            logs.append(_tested(model, batch))
        else:
            answers = predict(model, batch)
            if seen < FEW:
                outputs.append(_flat(answers, batch.size))
        sizes.append(batch.size)
        seen += batch.size
        progress(what, seen)
    names = [name for name, value in logs[0].items() if np.ndim(value) == 0] if logs else []
    means = {
        name: float(np.average([float(one[name]) for one in logs], weights=sizes)) for name in names
    }
    losses = np.array([float(one["loss"]) for one in logs])
    return Tally(seen, means, losses, _joined(outputs))


def _tested(model: keras.Model, batch: Batch) -> dict[str, float]:
    try:
        return model.test_on_batch(*batch, return_dict=True)
    except Exception as error:  # what Keras, the backend or a user's loss raises
        predict(model, batch)  # says so, if it is the input that does not fit
        shapes = keras.tree.map_structure(lambda one: tuple(np.shape(one)), batch.y)
        raise InputError(
            f"model {model.name!r}: expected labels that its loss takes, got some of shape "
            f"{shapes}: {first_sentence(error)}. Give those it was compiled for, or none."
        ) from error


def _flat(answers: Any, size: int) -> np.ndarray:
    """Return some of the numbers that a model answers to each example, of shape (size, -1)."""
    parts = [np.zeros((size, 0))]
    for one in keras.tree.flatten(answers):
        is_array = isinstance(one, np.ndarray) and one.dtype.kind not in "OSU"  # nor ragged
        if is_array and one.size and one.shape[0] == size:
            rows = one.reshape(size, -1)
            some = np.linspace(0, rows.shape[1] - 1, min(rows.shape[1], MOST_OUTPUTS)).astype(int)
            parts.append(rows[:, some].astype("float64"))
    return np.concatenate(parts, axis=1)


def _joined(outputs: list[np.ndarray]) -> np.ndarray | None:
    """Put the outputs of batches together; of sequences as long as each batch, the beginning."""
    outputs = [one for one in outputs if len(one)]
    width = min((one.shape[1] for one in outputs), default=0)
    return np.concatenate([one[:, :width] for one in outputs]) if width else None


@contextmanager
def _caught(layer: keras.layers.BatchNormalization, channel: int, values: list):
    """Keep what reaches one channel of a layer, where it is called with values and not traced."""
    usual = layer.call

    def call(inputs, training=None, mask=None):
        try:
            rows = keras.ops.convert_to_numpy(getattr(inputs, "flat_values", inputs))
            rows = np.take(rows, channel, int(layer.axis)).astype("float64")
            rows = rows if mask is None else rows[keras.ops.convert_to_numpy(mask)]
            values.append(rows.ravel())
        except Exception:  # each backend has its own error for traced tensors
            pass
        return usual(inputs, training=training, mask=mask)

    layer.call = call
    try:
        yield
    finally:
        layer.call = usual


def histogram(model: keras.Model, batches: Batches, found: Population, channel: int):
    """Return the distribution of what reaches a channel, of the first few examples.

    Returns:
        density and edges as `numpy.histogram` has them; None where it cannot be had.
    """
    values = []
    layers = watchable_layers(model)
    with (
        state_kept(model),
        watched(model, layers, by_batch=True),
        _caught(found.layer, channel, values),
    ):
        for part in _few(batches)[:8]:
            model(part[0], training=False)
    values = np.concatenate(values) if values else np.zeros(0)
    values = values[np.isfinite(values)]
    if values.size < 2:
        return None
    low, high = np.quantile(values, [0.001, 0.999])
    if high - low <= LEAST_WIDTH * np.abs(values).max():  # almost all of them are one value
        low, high = values.min(), values.max()
    if high - low <= LEAST_WIDTH * np.abs(values).max():
        return None
    return np.histogram(values, bins=48, range=(low, high), density=True)
