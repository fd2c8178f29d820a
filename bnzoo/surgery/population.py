"""What reaches each batch normalization layer while a model runs over data: count, mean, variance.

Within `watched` a layer's `call` is another one, which measures its input and, if asked, normalizes
it by the batch as in training, while everything else in the model is in inference.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import keras
import numpy as np
from keras import ops

from bnzoo.layers import BatchNormalization
from bnzoo.layers.finding import batch_norm_layers
from bnzoo.ops import moving
from bnzoo.surgery.affine import to_float64
from bnzoo.versions import KerasBatchNormalization

# JAX has no float64 unless all of it is told so.
WIDEST = "float32" if keras.backend.backend() == "jax" else "float64"
KNOWN_CALLS = (KerasBatchNormalization.call, BatchNormalization.call)


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
    """Moments of all that a layer was given; arrays are float64 of shape (channels,).

    Attributes:
        layer: the layer.
        count: samples behind each channel: examples times positions that no mask leaves out.
        mean: their mean.
        variance: the mean of their squared distances from it (divided by `count`).
        noise: standard deviation of the mean from batch to batch, by that of all samples: how far
            off, in standard deviations, the mean of a batch is.
        maximum: the largest output.
        batches: calls with finite statistics; a layer that is called twice counts twice.
        bad_batches: calls without: empty, fully masked, or with NaN or infinity.
    """

    layer: keras.layers.BatchNormalization
    count: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    noise: np.ndarray
    maximum: np.ndarray
    batches: int
    bad_batches: int


def is_frozen(layer: keras.layers.BatchNormalization) -> bool:
    """Tell whether a layer uses its moving statistics in training too."""
    return not layer.trainable or getattr(layer, "frozen_statistics", False)


def watchable_layers(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the layers that can be watched: subclasses that compute something else cannot."""
    return [layer for layer in batch_norm_layers(model) if type(layer).call in KNOWN_CALLS]


@contextmanager
def watched(
    model: keras.Model, layers: list[keras.layers.BatchNormalization], by_batch: bool
) -> Iterator[Callable[[], list[Population]]]:
    """Watch layers while a model is used, by `test_on_batch` and `predict_on_batch` for example.

    Args:
        model: built; as it was afterwards.
        layers: of `watchable_layers`.
        by_batch: let those that are not frozen normalize by the batch, or by its ghosts; else they
            stay in inference.

    Yields:
        A function that returns what was measured since it was last called, in the order of
        `layers`, without those that are not built.
    """
    layers = [layer for layer in layers if layer.built]
    with _scope(model):
        sums = [_Sums(layer) for layer in layers]
    for layer, one in zip(layers, sums, strict=True):
        layer.call = _watching(layer, one, by_batch)
    try:
        with new_steps(model):
            yield lambda: [one.population() for one in sums]
    finally:
        for layer, one in zip(layers, sums, strict=True):
            del layer.call
            one.remove()


def _scope(model: keras.Model) -> AbstractContextManager:
    """Return where sums are weights of each replica, or a batch counts once for each of them."""
    strategy = getattr(model, "distribute_strategy", None)  # of TensorFlow
    return strategy.scope() if strategy and strategy.num_replicas_in_sync > 1 else nullcontext()


@contextmanager
def new_steps(model: keras.Model) -> Iterator[None]:
    """Have the compiled steps of a model made anew within a block, and put the old ones back."""
    kept = model.test_function, model.predict_function
    model.test_function = model.predict_function = None
    try:
        yield
    finally:
        model.test_function, model.predict_function = kept


def _watching(layer: keras.layers.BatchNormalization, sums: "_Sums", by_batch: bool) -> Callable:
    usual, ghosts = layer.call, getattr(layer, "virtual_batch_size", None)
    by_batch = by_batch and not is_frozen(layer)
    measure = _ByBatch(layer, sums.add)
    normalize = _ByBatch(layer, None, ghosts) if ghosts else None

    def call(inputs, training=None, mask=None):
        outputs = measure.call(inputs, training=True, mask=mask)
        if not by_batch:
            outputs = usual(inputs, training=False, mask=mask)
        elif normalize:
            outputs = normalize.call(inputs, training=True, mask=mask)
        sums.see(outputs)
        return outputs

    return call


class _ByBatch(BatchNormalization):
    """Normalizes by the batch with another layer's gamma and beta, and hands out the moments."""

    def __init__(self, layer, take, virtual_batch_size=None):
        super().__init__(
            axis=layer.axis,
            epsilon=layer.epsilon,
            center=layer.center,
            scale=layer.scale,
            virtual_batch_size=virtual_batch_size,
            name=layer.name,
            dtype=layer.dtype_policy,
        )
        self.gamma, self.beta = getattr(layer, "gamma", None), getattr(layer, "beta", None)
        self._take = take

    def _move(self, mean, variance, count):
        if self._take:
            self._take(mean, variance, count)


class _Sums:
    """Running moments of one layer, merged batch by batch.

    They are weights of the layer, for as long as they are needed: only so does JAX hand them from
    step to step.

    Source:
        Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance".
    """

    def __init__(self, layer):
        self._layer, self._weights = layer, []  # with their first values
        channels = layer.moving_mean.shape
        self._count, self._mean = self._weight(channels), self._weight(channels)
        # Squared distances from the mean of all, and from the mean of each batch.
        self._squares, self._within = self._weight(channels), self._weight(channels)
        self._maximum = self._weight(channels, -np.inf)
        self._batches, self._bad = self._weight(()), self._weight(())

    def _weight(self, shape, value=0.0):
        self._layer._tracker.unlock()  # as Keras does before it gives a built layer LoRA's weights
        weight = self._layer.add_weight(
            shape, keras.initializers.Constant(value), WIDEST, trainable=False, autocast=False
        )
        self._layer._tracker.lock()
        self._weights.append((weight, value))
        return weight

    def remove(self) -> None:
        for weight, _ in self._weights:
            self._layer._untrack_variable(weight)

    def add(self, mean, variance, count):
        """Merge the moments of a batch, all of shape (channels,) but the count, maybe ()."""
        usable = moving.has_statistics(variance, count)
        number, mean, variance = (
            ops.where(usable, ops.cast(value, WIDEST), 0.0) for value in (count, mean, variance)
        )
        total = self._count + number
        divisor = ops.maximum(total, 1.0)
        offset = mean - self._mean
        self._squares.assign_add(
            variance * number + ops.square(offset) * (self._count * number / divisor)
        )
        self._within.assign_add(variance * number)
        self._mean.assign_add(offset * number / divisor)
        self._count.assign(ops.broadcast_to(total, self._count.shape))
        good = ops.cast(ops.any(usable), WIDEST)
        self._batches.assign_add(good)
        self._bad.assign_add(1.0 - good)

    def see(self, outputs):
        """Take the largest output of each channel."""
        outputs = getattr(outputs, "flat_values", outputs)  # of a ragged tensor
        axis = int(self._layer.axis) % len(outputs.shape) if outputs.shape else 0
        others = [at for at in range(len(outputs.shape)) if at != axis]
        largest = ops.cast(ops.max(outputs, others, initial=float("-inf")), WIDEST)
        self._maximum.assign(ops.maximum(self._maximum, largest))

    def population(self) -> Population:
        count, mean, squares, within, maximum = (
            to_float64(one)
            for one in (self._count, self._mean, self._squares, self._within, self._maximum)
        )
        batches, bad = int(self._batches.numpy()), int(self._bad.numpy())
        for weight, value in self._weights:
            weight.assign(np.full(weight.shape, value))
        between = np.maximum(squares - within, 0) / np.maximum(squares, np.finfo(float).tiny)
        return Population(
            self._layer,
            count,
            mean,
            squares / np.maximum(count, 1),
            np.sqrt(between),
            maximum,
            batches,
            bad,
        )
