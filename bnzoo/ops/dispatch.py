"""The one door through which the layer normalises a training batch."""

from bnzoo.ops.gradient import batch_norm


def normalize_batch(
    inputs, gamma=None, beta=None, mask=None, *, axis=-1, epsilon=1e-3, synchronized=False, dtype
):
    """Normalise a batch by its own statistics, by the way that suits it.

    There is one way: plain composed operations with a written-out gradient (`batch_norm`), which
    holds for every backend, rank, axis, dtype and mask.

    Args:
        inputs: float tensor of shape (batch, ..., channels, ...).
        gamma: tensor of shape (channels,), or None: 1.
        beta: tensor of shape (channels,), or None: 0.
        mask: bool tensor with as many dimensions as `inputs`, each equal or 1; or None. False keeps
            a sample out of the statistics; its output is still normalised.
        axis: the channel axis, in [-ndim, ndim).
        epsilon: added to the variance, at least 0 (default: Keras').
        synchronized: take the statistics over all replicas of a `tf.distribute` strategy.
        dtype: dtype of the outputs.

    Returns:
        outputs, of the shape of `inputs` and of `dtype`; mean, variance (divided by n) and count n,
        each of shape (channels,), float64 for float64 inputs, else float32. A channel without
        samples has zeros.

    Example:
        >>> from keras import ops
        >>> x = ops.array([[0.0, 2.0], [4.0, 2.0]])
        >>> outputs, mean, variance, count = normalize_batch(x, epsilon=0.0001, dtype="float16")
        >>> ops.convert_to_numpy(outputs).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
        >>> ops.convert_to_numpy(variance).tolist()
        [4.0, 0.0]
    """
    return batch_norm(
        inputs,
        gamma,
        beta,
        mask,
        axis=axis,
        epsilon=epsilon,
        synchronized=synchronized,
        dtype=dtype,
    )
