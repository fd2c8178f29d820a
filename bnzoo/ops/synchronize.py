"""Statistics of one batch that several replicas hold between them (`tf.distribute`)."""

import keras
from keras import ops

from bnzoo.ops.moments import Moments, at_least_one


def replica_context():
    """Find the replica that is being traced, where there is more than one.

    Returns:
        The `tf.distribute.ReplicaContext`, or None: another backend, no strategy, one replica, or
        outside of the replicas (where Keras builds a model under a strategy's scope).
    """
    if keras.backend.backend() != "tensorflow":
        return None
    # Imported here because the JAX backend must work where TensorFlow is not installed.
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def sum_over_replicas(values):
    """Add a tensor up over the replicas; without replicas it is returned as it is.

    Args:
        values: float tensor, of one shape on every replica.

    Returns:
        Tensor of the same shape, equal on every replica. Its gradient is again such a sum.
    """
    context = replica_context()
    return values if context is None else context.all_reduce("sum", values)


def gather_replicas(values):
    """Lay the tensors of all replicas on top of each other.

    Each replica sends a tensor of zeros with its own row filled in, so that one sum is the whole
    exchange, forward and again backward; an all-gather takes two.

    Args:
        values: float tensor of any one shape on every replica.

    Returns:
        Tensor of shape (replicas, ...).
    """
    context = replica_context()
    if context is None:
        return ops.expand_dims(values, 0)
    replica, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
    mine = ops.equal(ops.arange(replicas), replica)
    mine = ops.reshape(mine, [replicas] + [1] * values.ndim)
    # Selected, not multiplied: an infinite statistic must not become NaN in another row.
    return sum_over_replicas(ops.where(mine, values, ops.zeros_like(values)))


def merge_moments(counts, means, centred_squares):
    """Merge the moments of several parts exactly.

    `mean = sum(n_i * mean_i) / n` with a correction sum, and
    `centred_squares = sum(centred_squares_i + n_i * (mean_i - mean) ** 2)`: nothing large is
    subtracted from anything large. A part with no samples changes nothing.

    Args:
        counts: float tensor of shape (parts, channels), at least 0.
        means: float tensor of shape (parts, channels).
        centred_squares: float tensor of shape (parts, channels), at least 0.

    Returns:
        count, mean and centred_squares, each of shape (channels,).

    Source:
        Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", for any
        number of parts.

    Example:
        >>> from keras import ops
        >>> parts = ops.array([[2.0], [1.0]]), ops.array([[1.0], [4.0]]), ops.array([[2.0], [0.0]])
        >>> [ops.convert_to_numpy(value).tolist() for value in merge_moments(*parts)]
        [[3.0], [2.0], [8.0]]
    """
    count = ops.sum(counts, 0)
    divisor = at_least_one(count)
    rough = ops.sum(counts * means, 0) / divisor
    centred = means - rough
    correction = ops.sum(counts * centred, 0) / divisor
    between = counts * ops.square(centred - correction)
    return count, rough + correction, ops.sum(centred_squares + between, 0)


def merge_replicas(statistics):
    """Merge the moments of every replica's share of the batch, in one exchange.

    Args:
        statistics: `Moments` of this replica; shares may differ, or be empty.

    Returns:
        `Moments` of the whole batch, count, mean and centred squares equal on every replica, around
        this replica's own shift.
    """
    count, mean, squares, shift, rest = statistics
    count = ops.broadcast_to(count, ops.shape(mean))
    rows = gather_replicas(ops.stack([count, mean, squares]))
    count, merged, squares = merge_moments(rows[:, 0], rows[:, 1], rows[:, 2])
    # Not `merged - shift`, which would take the rounding of this replica's mean for a difference.
    return Moments(count, merged, squares, shift, rest + (merged - mean))
