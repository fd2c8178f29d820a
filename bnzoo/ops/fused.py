"""TensorFlow's fused kernels, with a check on what they are bad at.

On a CPU they are oneDNN's: 2 to 5 times the speed of plain operations from about 100,000 elements
on, where the number of channels is divisible by 4. They lose the variance where the mean is large
against the spread (at an offset of 10,000 and 131,072 samples it is 9 times too large), and each
thread adds up its squares one after the other, so that behind the blank first of 128 bright images
it is off by up to 6e-3. So their own results are looked at, and where the mean is large the sums
are taken again in plain operations; the backward pass is the kernel's either way.
"""

import math
from typing import NamedTuple

import keras
from keras import ops

from bnzoo.ops.moments import at_least_one, moments
from bnzoo.ops.moving_average import Usable
from bnzoo.ops.normalize import inverse_stddev
from bnzoo.ops.views import Rows

# The largest mean ** 2 / (variance + epsilon) at which the kernel's own results are kept. One blank
# example among n that are all at one offset has n - 1. NaN, infinite and one-sample batches fail
# the comparison too. Over the first 120 steps of three_conv on Devanagari digits and of lenet on
# CIFAR-10 (BN before and after, batch 128, Adam) the largest ratio of any channel was 7.6.
LARGEST_RATIO = 16.0


class Options(NamedTuple):
    """How to call the kernel.

    Attributes:
        axis: the channel axis, in [-ndim, ndim).
        epsilon: added to the variance, at least 0.
        dtype: dtype of the outputs.
        on_gpu: the kernel is cuDNN's, whose reserved outputs are its own affair.
        usable: what the statistics pass through, a `bnzoo.ops.moving_average.Usable`, or None.
        fold: how many samples to put into one row where plain operations add up.
    """

    axis: int
    epsilon: float
    dtype: str
    on_gpu: bool = False
    usable: Usable | None = None
    fold: int = 1


class Saved(NamedTuple):
    """What the forward pass leaves for the backward pass, besides its arguments."""

    values: object  # what the kernel normalised: x, or x - mean, of its four dimensions
    first: object  # the kernel's reserved outputs for its gradient
    second: object
    third: object


def forward(options, inputs, gamma=None, beta=None):
    """Normalise a batch by its own statistics with `FusedBatchNormV3`.

    Args:
        options: how.
        inputs: float16, bfloat16 or float32 tensor of shape (batch, ..., channels, ...), of 2 to 5
            dimensions. Only a channel axis that is not the last costs a transpose.
        gamma: float32 tensor of shape (channels,), or None: 1.
        beta: float32 tensor of shape (channels,), or None: 0.

    Returns:
        (outputs, mean, variance, count), the last three usable for moving averages; and Saved.
    """
    import tensorflow as tf

    epsilon, values = options.epsilon, _values(options, inputs)
    channels = values.shape[-1]
    count = ops.cast(math.prod(ops.shape(values)[:-1]), "float32")
    gamma = tf.ones([channels]) if gamma is None else gamma
    beta = tf.zeros([channels]) if beta is None else beta

    def run(values):
        outputs, mean, variance, *reserved = _kernel(values, gamma, beta, epsilon)
        if options.on_gpu:
            variance = variance * (tf.maximum(count - 1, 1) / tf.maximum(count, 1))
        else:
            mean, variance = reserved[:2]
        return outputs, mean, variance, *reserved

    outputs, mean, variance, *reserved = run(values)

    usable = options.usable or Usable()

    def as_it_is():
        return outputs, mean, usable.finished(variance, count), count, values, *reserved

    def around_the_mean():
        centred = tf.cast(values, "float32") - mean
        if options.on_gpu:
            outputs, rest, variance, *again = run(centred)
        else:
            outputs, rest, variance, centred, *again = _plain(options, centred, gamma, beta)
            again.extend(reserved[2:])
        # Not `mean + rest`: rest ends in an addition too, and Grappler makes one AddN of both,
        # whose temporary variable escapes from the branch and fails the step (TensorFlow 2.21).
        whole = tf.reduce_sum(tf.stack([mean, rest]), 0)
        # Of an empty batch the kernel's mean is NaN.
        statistics = usable._replace(maybe_empty=True)(whole, variance, count)
        rounded = tf.cast(centred, values.dtype)
        return tf.cast(outputs, values.dtype), *statistics, rounded, *again

    spread = variance + epsilon
    # An infinite variance would pass for larger than any mean.
    precise = (tf.square(mean) <= LARGEST_RATIO * spread) & (spread < spread.dtype.max)
    precise = tf.reduce_all(precise)
    if usable.maybe_empty:
        # Small kernels give an empty batch mean 0 and variance 0, large ones NaN.
        precise = precise & (count > 0)
    outputs, mean, variance, count, *saved = tf.cond(precise, as_it_is, around_the_mean)
    outputs = ops.cast(_from_kernel(outputs, inputs, options.axis), options.dtype)
    return (outputs, mean, variance, count), Saved(*saved)


def backward(options, inputs, saved, upstream, gamma=None, beta=None):
    """Turn the gradient of the outputs into gradients of every argument.

    The statistics are taken to have no use but the moving averages: theirs are left out, as adding
    nothing to the kernel's result would be one more pass over it.

    Args:
        options: those of the forward pass.
        inputs: the forward pass', as are gamma and beta.
        saved: what `forward` left.
        upstream: gradients of outputs, mean, variance and count, of which the first is used.
        gamma: tensor of shape (channels,), or None.
        beta: not needed.

    Returns:
        The gradients of inputs, gamma and beta.
    """
    import tensorflow as tf

    values = saved.values
    d_values, d_gamma, d_beta, *_ = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=_to_kernel(tf.cast(upstream[0], values.dtype), options.axis),
        x=values,
        scale=tf.ones(values.shape[-1:]) if gamma is None else gamma,
        reserve_space_1=saved.first,
        reserve_space_2=saved.second,
        reserve_space_3=saved.third,
        epsilon=options.epsilon,
        is_training=True,
    )
    d_inputs = tf.cast(_from_kernel(d_values, inputs, options.axis), inputs.dtype)
    return d_inputs, d_gamma, d_beta


def infer(options, inputs, mean, variance, gamma=None, beta=None):
    """Normalise by given statistics in one pass, exactly: the kernel subtracts the mean first.

    Args:
        options: how.
        inputs: as in `forward`, with the channels last.
        mean: float32 tensor of shape (channels,), as is variance.
        variance: at least 0.
        gamma: float32 tensor of shape (channels,), or None: 1.
        beta: float32 tensor of shape (channels,), or None: 0.

    Returns:
        Tensor of the shape of `inputs`, of the dtype asked for.
    """
    import tensorflow as tf

    outputs = tf.raw_ops.FusedBatchNormV3(
        x=_to_kernel(inputs, options.axis),
        scale=ops.ones_like(mean) if gamma is None else gamma,
        offset=ops.zeros_like(mean) if beta is None else beta,
        mean=mean,
        variance=variance,
        epsilon=options.epsilon,
        is_training=False,
    )[0]
    return ops.cast(_from_kernel(outputs, inputs, options.axis), options.dtype)


def blank(options, inputs):
    """Make a `Saved` of the right structure out of nothing, for a branch that is not taken."""
    values = _values(options, inputs)
    nothing = ops.zeros((values.shape[-1],), "float32")
    return Saved(values, nothing, nothing, nothing)


def _values(options, inputs):
    # oneDNN has no kernel for float16.
    if keras.backend.standardize_dtype(inputs.dtype) == "float16" and not options.on_gpu:
        inputs = ops.cast(inputs, "float32")
    return _to_kernel(inputs, options.axis)


def _plain(options, values, gamma, beta):
    """Return outputs, mean, variance; then what was normalised, its mean, and the variance."""
    view = Rows(values.shape[-1], options.fold, by_matmul=True)
    (count, mean, squares, _, rest), centred = moments(view.lay(values), None, view)
    variance = squares / at_least_one(count)
    scale = gamma * inverse_stddev(variance, options.epsilon)
    outputs = centred * view.spread(scale) + view.spread(beta - rest * scale)
    outputs, centred = (view.unlay(value, values) for value in (outputs, centred))
    return outputs, mean, variance, centred, rest, variance


def _kernel(values, gamma, beta, epsilon):
    import tensorflow as tf

    nothing = tf.zeros([0])
    return tf.raw_ops.FusedBatchNormV3(
        x=values, scale=gamma, offset=beta, mean=nothing, variance=nothing, epsilon=epsilon
    )


def _to_kernel(x, axis):
    """Bring a tensor of 2 to 5 dimensions to (batch, height, width, channels)."""
    last = x.ndim - 1
    if axis % x.ndim != last:
        x = ops.moveaxis(x, axis, -1)
    if x.ndim == 4:
        return x
    shape = ops.shape(x)
    if x.ndim == 5:
        return ops.reshape(x, (shape[0], shape[1] * shape[2], shape[3], shape[4]))
    # A matrix as (rows, 1, 1, channels): the kernel's inference has one thread for other layouts.
    return ops.reshape(x, (shape[0], shape[1] if x.ndim == 3 else 1, 1, shape[-1]))


def _from_kernel(values, like, axis):
    """Undo `_to_kernel` for a tensor of the shape of `like`."""
    last = like.ndim - 1
    if axis % like.ndim == last:
        return values if like.ndim == 4 else ops.reshape(values, ops.shape(like))
    shape = list(ops.shape(like))
    shape.append(shape.pop(axis % like.ndim))
    return ops.moveaxis(ops.reshape(values, shape), -1, axis)
