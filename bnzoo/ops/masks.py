"""A mask becomes one weight per sample."""

from keras import ops


def mask_weights(mask, inputs, axis: int, dtype: str):
    """Spread a mask over the samples of a tensor.

    Args:
        mask: bool (or number, where 0 means masked out) tensor with as many dimensions as `inputs`,
            each equal or 1.
        inputs: tensor of shape (batch, ..., channels, ...).
        axis: the channel axis of `inputs`, in [-ndim, ndim).
        dtype: float dtype of the result.

    Returns:
        Tensor of the shape of `inputs`, but 1 at the channel axis where the mask is 1 there: 1
        where a sample counts in the statistics, 0 where it does not.

    Example:
        >>> from keras import ops
        >>> mask = ops.array([[[True], [False]]])
        >>> weights = mask_weights(mask, ops.ones((3, 2, 4)), -1, "float32")
        >>> ops.convert_to_numpy(weights)[..., 0].tolist()
        [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]
    """
    shape = list(ops.shape(inputs))
    if mask.shape[axis] == 1:
        shape[axis] = 1
    # Through bool, for -1 and 0.5 count once, like any other number that is not zero.
    return ops.broadcast_to(ops.cast(ops.cast(mask, "bool"), dtype), shape)


def without_masked_nan(inputs, weights):
    """Put zero where a sample is masked out and not finite.

    Its output and gradient would be NaN otherwise, and a gradient of NaN does not stay in the
    padding: the sums of the backward pass, and every layer before, would take it up. From here on
    a product with the weights is enough to leave something out.

    Args:
        inputs: float tensor of shape (batch, ..., channels, ...).
        weights: tensor that broadcasts against it, of zeros and ones, or None: return `inputs`.

    Returns:
        Tensor of the shape and dtype of `inputs`; all that is finite as it was, and NaN for what
        counts and is infinite.
    """
    if weights is None:
        return inputs
    instead = ops.cast(ops.where(weights > 0, float("nan"), 0.0), inputs.dtype)
    return ops.where(ops.isfinite(inputs), inputs, instead)


def keep(values, weights):
    """Put zero where a weight is zero.

    Args:
        values: float tensor, finite wherever a weight is zero.
        weights: tensor that broadcasts against it, of zeros and ones, or None: keep everything.

    Returns:
        Tensor of the shape and dtype of `values`.
    """
    return values if weights is None else values * weights
