"""Counting the batches that batch normalization could not learn statistics from."""

import warnings

import keras
from keras import ops

from bnzoo.layers import BatchNormalization
from bnzoo.versions import private


class BadBatches(keras.callbacks.Callback):
    """Count batches that left moving statistics untouched, and warn of the first.

    Such a batch is empty, fully masked, or has a NaN or an infinite value: its output shows it, but
    the moving statistics of `bnzoo.BatchNormalization` stay as they were. The count of each epoch,
    added up over the layers, stands in the logs and in the history as `bad_batches`.

    The model's attribute `bad_batches` keeps a counter from then on. It is none of its weights, and
    is not saved.

    Attributes:
        total: layers times batches so far.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), BatchNormalization()])
        >>> model.compile("sgd", "mse")
        >>> x = np.array([[1.0, 2.0], [np.nan, 4.0]])
        >>> bad = BadBatches()
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     history = model.fit(x, x, verbose=0, callbacks=[bad])
        >>> bad.total, history.history["bad_batches"]
        (1, [1])
    """

    def __init__(self):
        super().__init__()
        self.total = 0
        self._before = 0

    def on_train_begin(self, logs=None):
        """Watch the layers; the training step is traced again to contain the count."""
        if not hasattr(self.model, "bad_batches"):
            self.model.bad_batches = _Counter(seed=0, name="bad_batches")
        flatten = private(self.model, "_flatten_layers", "Nested models are not watched.")
        for layer in flatten() if flatten else self.model.layers:
            if isinstance(layer, BatchNormalization):
                layer.batch_observer = self.model.bad_batches.observe
        self.model.make_train_function(force=True)

    def on_epoch_begin(self, epoch, logs=None):
        """Remember where the count stands."""
        self._before = self.model.bad_batches.count()

    def on_epoch_end(self, epoch, logs=None):
        """Add up, and warn once."""
        count = self.model.bad_batches.count() - self._before
        if logs is not None:
            logs["bad_batches"] = count
        if count and not self.total:
            warnings.warn(
                f"In epoch {epoch + 1} batch normalization met batches that were empty, fully "
                f"masked, or held NaN or infinity: {count}, added up over its layers. The moving "
                "statistics stayed as they were. Look at the input, or lower the learning rate.",
                stacklevel=2,
            )
        self.total += count


class _Counter(keras.random.SeedGenerator):
    """A number that a training step adds to.

    The state of a seed generator is the one kind that every backend carries through a compiled step
    and that Keras counts neither among the weights nor among the metrics.
    """

    def observe(self, valid):
        """Take whether a layer's moving statistics may follow a batch, or each channel of it."""
        bad = ops.cast(_seen_once(ops.any(ops.logical_not(valid))), self.state.dtype)
        self.state.assign(self.state + ops.stack([ops.zeros_like(bad), bad]))

    def count(self) -> int:
        """Return the batches so far in which a channel had nothing to count."""
        return int(ops.convert_to_numpy(self.state)[1])


def _seen_once(bad):
    """Let the first of several replicas that share a batch speak for all of them."""
    if keras.backend.backend() != "tensorflow":
        return bad
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return bad
    anywhere = context.all_reduce("sum", tf.cast(bad, "float32")) > 0
    return anywhere & tf.equal(context.replica_id_in_sync_group, 0)
