"""What Keras 3.15 does otherwise in a distributed step than in that of one process.

Each override is of one model or of its optimizer; nothing of Keras itself is changed, and a run
that is not distributed has none.
"""

import threading
from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree


def distribute_steps(model: keras.Model, batch: tuple, num_workers: int) -> None:
    """Let `fit` and `evaluate` of a compiled model take the batches of `share_batches`.

    Args:
        model: made in the scope of a strategy.
        batch: one whole batch.
        num_workers: processes of the strategy.
    """
    weight = threading.local()  # each replica is traced in a thread of its own
    _build_from(model, batch)
    for name in ("train_step", "test_step"):
        step = _of_share(model, getattr(model, name), weight)
        setattr(model, name, _one_row(step) if num_workers > 1 else step)
    _weight_losses(model.optimizer, weight)
    _reduce_first(model.optimizer)


def _build_from(model: keras.Model, batch: tuple) -> None:
    """Build metrics, loss and optimizer from a batch of our own.

    Keras would reduce the first distributed batch to its mean, which fails with several workers,
    and with uneven shares: https://github.com/keras-team/keras/issues/20585.
    """
    build = model._maybe_symbolic_build
    model._maybe_symbolic_build = lambda iterator=None, data_batch=None: build(
        data_batch=batch if data_batch is None else data_batch
    )
    model._maybe_symbolic_build()


def _one_row(step: Callable) -> Callable:
    """Give each of a step's results a first axis of 1.

    With several workers Keras averages them over axis 0, which scalars do not have:
    https://github.com/keras-team/keras/issues/20585.
    """
    return lambda data: tree.map_structure(lambda one: ops.expand_dims(one, 0), step(data))


def _of_share(model: keras.Model, step: Callable, weight: threading.local) -> Callable:
    """Let a step take a `Share`, and anything else as before."""
    import tensorflow as tf

    from bnzoo.data.shares import Share

    def run(data: Any) -> Any:
        weight.value = data.weight if isinstance(data, Share) else None
        if weight.value is None:
            return step(data)
        before = [tf.identity(one.value) for one in model.metrics_variables]
        logs = step(data.batch)
        for variable, value in zip(model.metrics_variables, before, strict=True):
            variable.assign(ops.where(data.is_counted, variable, value))
        return logs

    return run


def _weight_losses(optimizer: keras.optimizers.Optimizer, weight: threading.local) -> None:
    """Weight the loss of a replica by its share: Keras takes the mean of the replicas' means.

    The gradients would be too late: behind synchronized statistics each is of all replicas' losses.
    """
    scale = optimizer.scale_loss

    def scale_loss(loss: Any) -> Any:
        is_shared = weight.value is not None
        return scale(loss * ops.cast(weight.value, loss.dtype) if is_shared else loss)

    optimizer.scale_loss = scale_loss


def _reduce_first(optimizer: keras.optimizers.Optimizer) -> None:
    """Add gradients up over the replicas before the optimizer looks at them.

    Keras does so behind clipping, and behind the check for overflow of mixed precision: what they
    do then differs from replica to replica, and from what the same batch does in one process; and
    of replicas that disagree about an overflow, some would wait for the others for ever.
    """
    import tensorflow as tf

    apply, innermost = optimizer.apply, getattr(optimizer, "inner_optimizer", optimizer)

    def apply_reduced(grads: list, trainable_variables: list | None = None) -> None:
        found = [one for one in grads if one is not None]
        context = tf.distribute.get_replica_context()
        reduced = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, found) if found else ())
        apply([one if one is None else next(reduced) for one in grads], trainable_variables)

    if not hasattr(innermost, "_all_reduce_sum_gradients"):
        raise RuntimeError(
            f"Keras {keras.version()} adds up gradients in a way bnzoo does not know."
        )
    innermost._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars
    optimizer.apply = apply_reduced
