"""One batch divided among replicas: together they see what one process sees, once and in order."""

from typing import Any, NamedTuple

import tensorflow as tf
from keras import tree


class Share(NamedTuple):
    """What one replica is given of a batch.

    Attributes:
        batch: (x, y) or (x, y, sample_weight) of this replica.
        weight: float32 scalar: of its mean gradient in the mean over replicas, which so is that
            over the examples of the whole batch; 1 where all shares are equal.
        is_counted: bool scalar: whether its metrics count.
    """

    batch: Any
    weight: Any
    is_counted: Any


def share_batches(
    strategy: tf.distribute.Strategy, batches: tf.data.Dataset
) -> tf.distribute.DistributedDataset:
    """Return a data set of `Share`, in which a step of all replicas takes one whole batch.

    Each example of a batch goes to one replica, in order, and shares differ by one example at most.
    A last batch with fewer examples than replicas goes to each of them as a whole, as layers and
    losses fail without an example, and counts once.

    It is not left to `experimental_distribute_dataset`, which fills uneven batches up from the
    front, down to replicas without an example.

    Args:
        strategy: divides a step among its replicas.
        batches: the whole batches, alike on every worker; their number is known.
    """
    shares = strategy.distribute_datasets_from_function(lambda context: _shares(batches, context))
    # Keras takes it for the number of steps, and it would be that of this worker's shares. A class
    # of our own with the right one is no data set to Keras, which looks at the names of classes.
    shares._cardinality = batches.cardinality().numpy()
    return shares


def _shares(batches: tf.data.Dataset, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Present the shares of one worker's replicas, one after the other."""
    count = context.num_replicas_in_sync
    mine = count // context.num_input_pipelines
    first = context.input_pipeline_id * mine

    def shares_of(*batch: Any) -> tf.data.Dataset:
        replicas = tf.data.Dataset.range(first, first + mine)
        return replicas.map(lambda replica: _share(batch, replica, count))

    return batches.flat_map(shares_of).prefetch(tf.data.AUTOTUNE)


def _share(batch: Any, replica: tf.Tensor, count: int) -> Share:
    size = tf.shape(tree.flatten(batch)[0], tf.int64)[0]
    is_whole = size < count
    start = tf.where(is_whole, tf.constant(0, tf.int64), size * replica // count)
    end = tf.where(is_whole, size, size * (replica + 1) // count)
    weight = tf.cast((end - start) * count, tf.float32) / tf.cast(size, tf.float32)
    return Share(
        tree.map_structure(lambda part: part[start:end], batch),
        tf.where(is_whole, 1.0, weight),
        tf.logical_or(tf.logical_not(is_whole), replica == 0),
    )
