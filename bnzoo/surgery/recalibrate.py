"""Population statistics: the moving averages of a trained model replaced by what the data has."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from bnzoo.errors import InputError, first_sentence
from bnzoo.layers.finding import batch_norm_layers, every_layer
from bnzoo.surgery.affine import to_float64
from bnzoo.surgery.batches import Batch, Batches
from bnzoo.surgery.graph import check_model
from bnzoo.surgery.population import Population, is_frozen, watchable_layers, watched

SMALLEST = np.finfo(float).tiny
SETTLED = 1e-5
"""Standard deviations by which statistics may still differ from pass to pass, layer by layer."""


class CannotRecalibrate(InputError):
    """A model has no statistics to estimate, or has weights with which they are not finite."""


def recalibrate(
    model: keras.Model,
    dataset: Any,
    num_samples: int | None = None,
    *,
    layer_by_layer: bool = False,
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda run, examples: None,
) -> keras.Model:
    """Replace moving statistics by the mean and variance over a data set ("precise BN").

    One pass: each batch normalization layer normalizes by its batch (by its ghosts, with
    `virtual_batch_size`), and everything else, such as dropout and augmentation, is in inference.
    Means and variances of the batches are merged by their counts, the variance between batches
    included, into those of the population. Nothing is left of the old averages.

    Frozen layers (`trainable=False` or `frozen_statistics`) stay as they are and use their moving
    statistics, as in training. So do subclasses with a `call` of their own. A batch that has no
    finite statistics in a layer, such as an empty one, is left out there. With `renorm` all five
    statistics are set, and batches are normalized without its corrections.

    Args:
        model: a Keras model of any kind, compiled or not. It is changed.
        dataset: batches as `model.fit` takes them, labels optional: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, another iterable; or an array of inputs, a dict of arrays, or a
            tuple (x, y) of arrays. Batches as large as in training, in random order.
        num_samples: examples to use, in whole batches; None for all. 1,000 to 10,000 are enough.
        layer_by_layer: take what each layer is given in inference instead, when all layers before
            it have their final statistics. This is done by passes in inference, after the first
            one, until nothing changes: as many as there are layers in a row. It leaves out what the
            noise of small batches adds, which the network saw in training. Not meant for a layer
            that is used behind itself: its statistics depend on themselves, and may never settle.
        batch_size: of arrays.
        progress: called after each batch with the number of the pass, from 0, and the examples so
            far in it.

    Returns:
        The same model. If an error is raised, it is as it was.

    Raises:
        InputError: there is no batch normalization that is not frozen; the data is empty, endless
            without `num_samples`, or of another shape; or no batch of it gives a layer finite
            statistics.

    Source:
        Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", arXiv 2105.07576, section 3.1. Their
        batches are equally large; here each weighs as many samples as it has.

    Example:
        >>> import numpy as np
        >>> from bnzoo.layers import BatchNormalization
        >>> model = keras.Sequential([keras.Input((1,)), BatchNormalization()])
        >>> x = np.array([[1.0], [3.0], [5.0], [7.0]], "float32")
        >>> model = recalibrate(model, x, batch_size=3)
        >>> model.layers[0].moving_mean.numpy().tolist()
        [4.0]
        >>> model.layers[0].moving_variance.numpy().tolist()
        [5.0]
    """
    check_model(model)
    batches = Batches(dataset, num_samples, batch_size)
    if not all(layer.built for layer in watchable_layers(model)):
        predict(model, batches.first())
    layers = _layers(model)
    statistics = {id(one) for layer in layers for one in layer.non_trainable_variables}
    kept = state_of(model)

    def settle(populations: Callable[[], list[Population]], number: int) -> float:
        seen = 0
        for batch in batches:
            predict(model, batch)
            seen += batch.size
            progress(number, seen)
        return max(assign(one) for one in _reached(populations()))

    try:
        with watched(model, layers, by_batch=True) as populations:
            settle(populations, 0)
        if layer_by_layer:
            with watched(model, layers, by_batch=False) as populations:
                passes = range(1, len(layers) + 2)
                next((one for one in passes if settle(populations, one) <= SETTLED), None)
    except BaseException:
        statistics.clear()
        raise
    finally:
        for weight, value in kept:
            if id(weight) not in statistics:
                weight.assign(value)
    return model


def state_of(model: keras.Model) -> list[tuple[keras.Variable, np.ndarray]]:
    """Return what inference may move, with its values: seeds, counters, states, statistics."""
    stateful = [one for one in every_layer(model) if getattr(one, "stateful", False)]
    # Keras does not count these among the variables of a recurrent layer.
    states = keras.tree.flatten([getattr(one, "states", None) for one in stateful])
    states = [one for one in states if isinstance(one, keras.Variable)]
    return [(one, one.numpy()) for one in [*model.non_trainable_variables, *states]]


@contextmanager
def state_kept(model: keras.Model) -> Iterator[None]:
    """Let a model be used, and recalibrated, within a block, and be as it was afterwards."""
    kept = state_of(model)
    try:
        yield
    finally:
        for weight, value in kept:
            weight.assign(value)
        model.reset_metrics()


def predict(model: keras.Model, batch: Batch) -> Any:
    """Return a model's answers to a batch; a batch that it cannot take is an `InputError`."""
    try:
        return model.predict_on_batch(batch.x)
    except Exception as error:  # what Keras, the backend or a user's layer raises
        shapes = keras.tree.map_structure(lambda one: tuple(np.shape(one)), batch.x)
        raise InputError(
            f"model {model.name!r}: expected a batch that it takes, got one of shape {shapes}: "
            f"{first_sentence(error)}. Bring the data to the shape of the model's input."
        ) from error


def _layers(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    layers = watchable_layers(model)
    free = [layer for layer in layers if not is_frozen(layer)]
    if free:
        return free
    if layers:
        raise CannotRecalibrate(
            f"model {model.name!r}: expected batch normalization that is not frozen, got "
            f"{len(layers)} frozen. Frozen layers keep their statistics: "
            "bnzoo.unfreeze_batch_norm(model) first."
        )
    others = sorted({type(layer).__name__ for layer in batch_norm_layers(model)})
    raise (InputError if others else CannotRecalibrate)(
        f"model {model.name!r}: expected a layer of batch normalization, found "
        f"{f'only {others[0]}, a subclass with a call of its own' if others else 'none'}. "
        "There is nothing to recalibrate."
    )


def _reached(found: list[Population]) -> list[Population]:
    """Return what the data reached; layers that the model does not use in inference are left out.

    Raises:
        InputError: no layer was reached, or one by no batch with finite statistics.
    """
    reached = [one for one in found if one.batches or one.bad_batches]
    if not reached:
        raise InputError(
            "expected the model to use its batch normalization on this data, found none used. Of a "
            "model that compiles its own call (tf.function), make a new one."
        )
    for one in reached:
        if not one.batches:
            raise CannotRecalibrate(
                f"layer {one.layer.name!r}: expected batches with finite statistics, got NaN, "
                f"infinity or nothing in all {one.bad_batches}. Look for NaN in the data and in "
                "the weights: bnzoo.diagnose(model)."
            )
    return reached


def assign(found: Population) -> float:
    """Give a layer its population's statistics, and return how far off the old ones were."""
    layer, seen = found.layer, found.count > 0
    variance = found.variance
    if getattr(layer, "unbiased_moving_variance", False):
        variance = variance * found.count / np.maximum(found.count - 1, 1)
    stddev = np.sqrt(variance + layer.epsilon)
    values = {"moving_mean": found.mean, "moving_variance": variance}
    if getattr(layer, "renorm", False):
        values |= {"moving_stddev": stddev, "renorm_mean": found.mean, "renorm_stddev": stddev}
    change = 0.0
    for name, value in values.items():
        weight = getattr(layer, name)
        old = to_float64(weight)
        weight.assign(np.where(seen, value, old))
        by = variance + layer.epsilon if name == "moving_variance" else stddev
        with np.errstate(invalid="ignore"):  # as the weight's dtype has them
            far = np.abs(to_float64(weight) - old)[seen] / np.maximum(by[seen], SMALLEST)
        change = max(change, np.nan_to_num(far, nan=np.inf).max(initial=0.0))
    if getattr(layer, "num_batches", None) is not None:
        layer.num_batches.assign(found.batches)
    return change


class Recalibrate(keras.callbacks.Callback):
    """Recalibrate at the end of training; with averaged weights, whenever they are in the model.

    `keras.callbacks.SwapEMAWeights` puts averaged weights into the model, whose moving statistics
    belong to the weights as they were trained. Put this callback behind it, and behind any that
    stops training or restores weights.

    Args:
        dataset: as `recalibrate` takes it.
        num_samples: examples to use; None for all.
        every_epoch: also before each validation, and at the end of each epoch before what comes
            behind this callback, such as a checkpoint. Training then goes on from these statistics.
        **options: `layer_by_layer` and `batch_size` of `recalibrate`.

    Example:
        >>> import numpy as np
        >>> from bnzoo.layers import BatchNormalization
        >>> stack = [keras.Input((1,)), BatchNormalization(), keras.layers.Dense(1)]
        >>> model = keras.Sequential(stack)
        >>> model.compile("sgd", "mse")
        >>> x = np.array([[1.0], [3.0]])
        >>> history = model.fit(x, x, verbose=0, callbacks=[Recalibrate(x)])
        >>> model.layers[0].moving_mean.numpy().tolist()
        [2.0]
    """

    def __init__(self, dataset, num_samples=None, every_epoch=False, **options):
        super().__init__()
        self._run = lambda: recalibrate(self.model, dataset, num_samples, **options)
        self._every_epoch, self._is_training = every_epoch, False
        self._left: list[np.ndarray] = []

    def update(self) -> None:
        """Recalibrate, unless the model is as the last time left it."""
        if not self._left or not all(map(np.array_equal, self._left, self._weights())):
            self._run()
            self._left = self._weights()

    def _weights(self) -> list[np.ndarray]:
        return [weight.numpy() for weight in self.model.weights]

    def on_train_begin(self, logs=None):
        """Know a validation within training from a call of `evaluate`."""
        self._is_training = True

    def on_test_begin(self, logs=None):
        """Have the statistics fit the weights that are to be measured."""
        if self._every_epoch and self._is_training:
            self.update()

    def on_epoch_end(self, epoch, logs=None):
        """Have them fit the weights that a checkpoint saves."""
        if self._every_epoch:
            self.update()

    def on_train_end(self, logs=None):
        """Have them fit the final weights."""
        self._is_training = False
        self.update()
