"""Statistics of one batch that several replicas hold between them (`tf.distribute`)."""

import keras
from keras import ops

from bnzoo.ops.statistics import Moments, merge_moments


def sum_over_replicas(values):
    """Add a tensor up over the replicas; without replicas it is returned as it is.

    Args:
        values: float tensor, of one shape on every replica.

    Returns:
        Tensor of the same shape, equal on every replica. Its gradient is again such a sum.
    """
    context = _replica_context()
    return values if context is None else context.all_reduce("sum", values)


def merge_replicas(statistics):
    """Merge the moments of every replica's share of the batch, in one exchange.

    Each replica sends a tensor of zeros with its own row filled in, so that one sum is the whole
    exchange, forward and again backward; an all-gather takes two.

    Args:
        statistics: `Moments` of this replica; shares may differ, or be empty.

    Returns:
        `Moments` of the whole batch, count, mean and centered squares equal on every replica,
        around this replica's own pivot.
    """
    context = _replica_context()
    if context is None:
        return statistics
    count, mean, squares, pivot, offset = statistics
    mine = ops.stack([ops.broadcast_to(count, ops.shape(mean)), mean, squares])
    replica, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
    is_mine = ops.reshape(ops.equal(ops.arange(replicas), replica), (replicas, 1, 1))
    # Selected, not multiplied: an infinite statistic must not become NaN in another row.
    rows = sum_over_replicas(ops.where(is_mine, mine, ops.zeros_like(mine)))
    count, merged, squares = merge_moments(rows[:, 0], rows[:, 1], rows[:, 2])
    # Not `merged - pivot`, which would take the rounding of this replica's mean for a difference.
    return Moments(count, merged, squares, pivot, offset + (merged - mean))


def _replica_context():
    """Find the replica that is being traced, where there is more than one; else None.

    There is none on another backend, without a strategy, with one replica, and outside of the
    replicas (where Keras builds a model under a strategy's scope).
    """
    if keras.backend.backend() != "tensorflow":
        return None
    # Imported here because the JAX backend must work where TensorFlow is not installed.
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None
