"""Batches in training that moving statistics do not follow."""

import warnings

import keras
from keras import ops

from bnzoo.layers import BatchNormalization
from bnzoo.layers.finding import batch_norm_layers
from bnzoo.ops.replicas import sum_over_replicas

ON_JAX = keras.backend.backend() == "jax"
if ON_JAX:
    import jax


class BadBatches(keras.callbacks.Callback):
    """Count batches that left moving statistics untouched, and warn of the first.

    Such a batch is empty, fully masked, or has a NaN or an infinite value: its output shows it, but
    the moving statistics of `bnzoo.BatchNormalization` stay as they were. The count of each epoch,
    added up over the layers, stands in the logs and in the history as `bad_batches`.

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
        # Beside the model's variables, or it would be saved with them.
        self._count = 0 if ON_JAX else _tensorflow_count()

    def on_train_begin(self, logs=None):
        """Watch the layers; the training step is traced again to contain the count."""
        for layer in batch_norm_layers(self.model):
            if isinstance(layer, BatchNormalization):
                layer.batch_observer = self._observe
        self.model.make_train_function(force=True)

    def _observe(self, valid):
        """Take whether a layer's moving statistics may follow a batch, or each channel of it."""
        bad = ops.any(ops.logical_not(valid))
        if ON_JAX:
            jax.debug.callback(self._add, bad)
        else:
            # A batch that several replicas share counts once: each of them adds its part of 1.
            anywhere = sum_over_replicas(ops.cast(bad, "float64")) > 0
            self._count.assign_add(
                ops.cast(anywhere, "float64") / sum_over_replicas(ops.ones((), "float64"))
            )

    def _add(self, bad):
        self._count += int(bad)

    def on_epoch_end(self, epoch, logs=None):
        """Add up, and warn once."""
        if ON_JAX:
            jax.effects_barrier()
        count = round(float(self._count)) - self.total
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


def _tensorflow_count():
    import tensorflow as tf

    return tf.Variable(
        0.0,
        trainable=False,
        dtype="float64",
        # Made under a strategy's scope, it is one number on each replica, and read as their sum.
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
