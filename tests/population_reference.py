"""Population statistics in float64 NumPy, for tests of what measures them in a model.

The model runs eagerly. Each batch normalization keeps all that it is given and normalizes it in
NumPy; in the end mean and variance are taken of everything at once, with nothing to merge.
"""

import keras
import numpy as np
from normalized_models import norms

from bnzoo.saving import dtype_policy


def cut(x, sizes):
    """Cut arrays into uneven batches."""
    ends = np.cumsum(sizes)
    return [
        keras.tree.map_structure(lambda each, end=end, size=size: each[end - size : end], x)
        for end, size in zip(ends, sizes, strict=True)
    ]


def in_float64(make, model):
    """Make the model of a function again in float64, with the weights of the given one."""
    with dtype_policy("float64"):
        return same_state(make(), model)


def same_state(model, source):
    """Give a model the variables of another of its kind."""
    for one, other in zip(model.variables, source.variables, strict=True):
        one.assign(np.asarray(other.numpy(), "float64"))
    return model


def statistics(model):
    """Return the moving mean and variance of each layer, by its name."""
    return {
        layer.name: (layer.moving_mean.numpy(), layer.moving_variance.numpy())
        for layer in norms(model)
    }


def populations(model, batches, by_batch=True):
    """Run a model over batches and return mean and variance of each layer's inputs, by its name.

    Frozen layers use their moving statistics; a channel without a sample keeps its own.
    """
    seen = {layer.name: [] for layer in norms(model)}
    for layer in norms(model):
        layer.call = _recording(layer, seen[layer.name], by_batch)
    try:
        for x in batches:
            model(x, training=False)
    finally:
        for layer in norms(model):
            del layer.call
    old = statistics(model)
    return {name: _moments(kept, old[name]) for name, kept in seen.items()}


def settle(model, batches):
    """Replace a model's statistics by those in inference, layer after layer as they are called."""
    for layer in in_order(model, batches[0]):
        mean, variance = populations(model, batches, by_batch=False)[layer.name]
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
    return model


def in_order(model, x):
    """Return layers in the order in which they are called."""
    order = []
    for layer in norms(model):
        usual = layer.call

        def call(inputs, layer=layer, usual=usual, **options):
            order.append(layer)
            return usual(inputs, **options)

        layer.call = call
    model(x)
    for layer in norms(model):
        del layer.call
    return list(dict.fromkeys(order))


def is_frozen(layer):
    return not layer.trainable or getattr(layer, "frozen_statistics", False)


def _recording(layer, seen, by_batch):
    ghost = getattr(layer, "virtual_batch_size", None)
    by_batch = by_batch and not is_frozen(layer)

    def call(inputs, training=None, mask=None):
        x = keras.ops.convert_to_numpy(inputs).astype("float64")
        axis = int(layer.axis) % x.ndim
        counted = _counted(mask, x.shape, axis)
        bad = by_batch and not np.isfinite(x[counted]).all()
        if len(x) and not bad:
            seen.append((np.moveaxis(x, axis, -1), np.moveaxis(counted, axis, -1)))
        size = ghost if by_batch and ghost else len(x) or 1
        parts = [slice(at, at + size) for at in range(0, len(x), size)]
        outputs = [_normalized(layer, x[part], counted[part], axis, by_batch) for part in parts]
        outputs = np.concatenate(outputs) if parts else x
        return keras.ops.convert_to_tensor(outputs.astype("float64"), layer.compute_dtype)

    return call


def _counted(mask, shape, axis):
    if mask is None:
        return np.ones(shape, bool)
    mask = keras.ops.convert_to_numpy(mask).astype(bool)
    if mask.ndim < len(shape):
        fits = mask.shape == tuple(np.delete(shape, axis))
        mask = np.expand_dims(mask, axis if fits else -1)
    return np.broadcast_to(mask, shape)


def _normalized(layer, x, counted, axis, by_batch):
    shape = [1] * x.ndim
    shape[axis] = -1
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    if by_batch:
        rows, kept = (np.moveaxis(each, axis, -1) for each in (x, counted))
        zeros = np.zeros(x.shape[axis])
        mean, variance = _moments([(rows, kept)], (zeros, zeros))
    gamma = layer.gamma.numpy() if layer.scale else np.ones(len(mean))
    beta = layer.beta.numpy() if layer.center else np.zeros(len(mean))
    mean, variance, gamma, beta = (
        np.asarray(each, "float64").reshape(shape) for each in (mean, variance, gamma, beta)
    )
    return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


def _moments(seen, old):
    """Return mean and variance over all of it, channel by channel."""
    means, variances = (np.array(each, "float64") for each in old)
    for channel in range(len(means)):
        values = [rows[..., channel][kept[..., channel]] for rows, kept in seen]
        values = np.concatenate([np.zeros(0), *values])
        if len(values):
            means[channel], variances[channel] = values.mean(), values.var()
    return means, variances
