"""Ghost batches: each few examples of a batch are normalised by their own statistics."""

from keras import ops

from bnzoo.ops.moments import at_least_one


def normalize_ghosts(run, inputs, gamma, beta, mask, settings, usable):
    """Normalise a batch ghost by ghost, all at once; what is left over forms a smaller ghost.

    Args:
        run: `run(inputs, gamma, beta, mask, settings)` normalises an input that has one more axis,
            first, which counts ghosts; its statistics have the shape (ghosts, channels).
        inputs: float tensor of shape (batch, ..., channels, ...).
        gamma: tensor of shape (channels,), or None.
        beta: tensor of shape (channels,), or None.
        mask: bool tensor with as many dimensions as `inputs`, each equal or 1; or None.
        settings: with `virtual_batch_size`, at least 2.
        usable: what the averaged statistics pass through, a `bnzoo.ops.moving_average.Usable`.

    Returns:
        outputs; mean and variance of shape (channels,), averaged over the ghosts by their counts;
        and the whole count, of shape (channels,).

    Source:
        Hoffer, Hubara and Soudry 2017, arXiv 1705.08741, Algorithm 1, whose moving averages take a
        step per ghost instead.
    """
    size, axis = settings.virtual_batch_size, settings.axis % len(inputs.shape) + 1
    settings = settings._replace(axis=axis, virtual_batch_size=None)
    batch, *example = ops.shape(inputs)
    whole = batch // size * size
    if mask is not None and mask.shape[0] is None:
        # It may turn out to be one for all examples.
        mask = ops.broadcast_to(mask, (batch, *ops.shape(mask)[1:]))
    # Where the batch is unknown, either part may turn out to be empty.
    parts = [(0, whole, batch // size, size), (whole, batch, 1, batch - whole)]
    results = []
    for start, stop, ghosts, length in parts:
        if isinstance(stop, int) and start == stop and (results or batch):
            continue
        into = (ghosts, length, *example)
        part = ops.reshape(inputs[start:stop], into)
        outputs, *statistics = run(part, gamma, beta, _part_of(mask, start, stop, into), settings)
        results.append((ops.reshape(outputs, (stop - start, *example)), *statistics))
    outputs = [result[0] for result in results]
    outputs = outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, 0)
    return outputs, *_average([result[1:] for result in results], usable)


def _part_of(mask, start, stop, into):
    """Cut and lay a mask as its inputs were, or leave it to broadcast where its batch is one."""
    if mask is None:
        return None
    if mask.shape[0] == 1:
        return ops.expand_dims(mask, 0)
    return ops.reshape(mask[start:stop], (*into[:2], *ops.shape(mask)[1:]))


def _average(statistics, usable):
    rows = []
    for mean, variance, count in statistics:
        count = ops.broadcast_to(count, ops.shape(mean))
        variance = usable.finished(variance, count)
        rows.append(ops.stack([count * mean, count * variance, count]))
    means, variances, count = ops.unstack(sum(ops.sum(row, 1) for row in rows), 3)
    divisor = at_least_one(count)
    return usable._replace(unbiased=False)(means / divisor, variances / divisor, count)
