"""TensorFlow's fused kernel on a CPU, with a check on what it is bad at.

oneDNN's kernels take down to a fifth of the time of plain operations on large inputs, where the
number of channels is divisible by 4. They lose the variance where the mean is large
against the spread (at an offset of 10,000 and 131,072 samples it is 9 times too large), and each
thread adds up its squares one after the other, so that behind the blank first of 128 bright images
it is off by up to 6e-3. So their own results are looked at, and where the mean is large the sums
are taken again in plain operations; the backward pass is the kernel's either way.
"""

import keras
from keras import ops

from bnzoo.ops.kernels import as_function
from bnzoo.ops.layouts import Layout
from bnzoo.ops.plain import normalize_centered
from bnzoo.ops.statistics import moments

# The largest mean ** 2 / (variance + epsilon) at which the kernel's own results are kept: for one
# blank example among n that are all at one offset it is n - 1. NaN fails the comparison too. Over
# the first 120 steps of three_conv on Devanagari digits and of lenet on CIFAR-10 (BN before and
# after, batch 128, Adam) the largest ratio of any channel was 7.6.
LARGEST_RATIO = 16.0


def fused_batch_norm(settings, inputs, gamma, beta):
    """Normalize a batch by its own statistics with `FusedBatchNormV3`.

    No gradient flows through the mean and the variance that are returned: adding theirs to the
    kernel's would be one more pass.

    Args:
        settings: `bnzoo.ops.kernels.Settings`.
        inputs: float16, bfloat16 or float32 tensor of shape (batch, ..., channels, ...), of 2 to 5
            dimensions. Only a channel axis that is not the last costs a transpose.
        gamma: float32 tensor of shape (channels,).
        beta: float32 tensor of shape (channels,).

    Returns:
        outputs, of the shape of `inputs`; mean and variance (divided by n) of shape (channels,);
        count n of shape ().
    """
    import tensorflow as tf

    @tf.custom_gradient
    def forward(inputs, gamma, beta):
        x = _to_kernel(inputs, settings.axis)
        # TensorFlow's forward mode cannot go through a condition: constants keep it out, and it
        # goes through `backward` instead.
        constants = [tf.stop_gradient(tensor) for tensor in (x, gamma, beta)]
        outputs, mean, variance, *saved = _run_and_check(*constants, settings.epsilon)

        def backward(dy, *_):
            x = _to_kernel(inputs, settings.axis)
            dy = _to_kernel(tf.cast(dy, x.dtype), settings.axis)
            dx, grad_gamma, grad_beta = _kernel_gradient(dy, x, gamma, saved, settings.epsilon)
            dx = tf.cast(_from_kernel(dx, inputs, settings.axis), inputs.dtype)
            return dx, grad_gamma, grad_beta

        outputs = tf.cast(_from_kernel(outputs, inputs, settings.axis), settings.dtype)
        count = tf.cast(tf.size(x) // x.shape[-1], "float32")
        return (outputs, mean, variance, count), backward

    return forward(inputs, gamma, beta)


def _run_and_check(x, gamma, beta, epsilon):
    """Run the kernel, and plain operations instead where its statistics are not exact.

    Returns:
        outputs, mean and variance; and what the kernel's gradient wants: x, or x less a pivot; its
        mean and variance; and a third tensor.
    """
    import tensorflow as tf

    outputs, _, _, mean, variance, reserved = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon
    )
    exact = tf.reduce_all(tf.square(mean) <= LARGEST_RATIO * (variance + epsilon))
    # Not inlined: the executor would visit each of its operations in every step, taken or not.
    in_plain_operations = as_function(_in_plain_operations, tuple(x.shape), inline=False)
    outputs, mean, variance, centered, offset = tf.cond(
        exact,
        lambda: (outputs, mean, variance, x, mean),
        lambda: in_plain_operations(x, gamma, beta, epsilon),
    )
    return outputs, mean, variance, centered, offset, variance, reserved


def _in_plain_operations(x, gamma, beta, epsilon):
    import tensorflow as tf

    layout = Layout("rows", ndim=4, axis=3, channels=x.shape[-1], sums="matmul")
    statistics, centered = moments(layout.to_layout(tf.cast(x, "float32")), None, layout)
    outputs, variance, _ = normalize_centered(centered, statistics, gamma, beta, epsilon, layout)
    outputs = tf.cast(layout.from_layout(outputs, x), x.dtype)
    if x.dtype != "float32":
        # Rounded once more, x less the pivot would be worse than x.
        return outputs, statistics.mean, variance, x, statistics.mean
    centered = layout.from_layout(centered, x)
    return outputs, statistics.mean, variance, centered, statistics.offset


def _kernel_gradient(dy, x, gamma, saved, epsilon):
    """Return the gradients of x, gamma and beta; they can be differentiated again."""
    import tensorflow as tf

    # The closures below may only hold tensors of this graph, and the forward pass has another.
    gamma, centered, mean, variance, reserved = (tf.identity(each) for each in (gamma, *saved))

    @tf.custom_gradient
    def kernel(dy, x, gamma):
        grads = tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=tf.stop_gradient(dy),
            x=centered,
            scale=tf.stop_gradient(gamma),
            reserve_space_1=mean,
            reserve_space_2=variance,
            reserve_space_3=reserved,
            epsilon=epsilon,
        )[:3]
        # Not left to TensorFlow, whose forward mode finds no way through the kernel's gradient.
        return grads, lambda *upstream: _second_gradient(upstream, dy, x, gamma, epsilon)

    return kernel(dy, tf.identity(x), gamma)


def _second_gradient(upstream, dy, x, gamma, epsilon):
    """Differentiate the gradients that `bnzoo.ops.plain.plain_batch_norm` writes down.

    With means over the samples of a channel, `c = x - mean(x)`, `i = rsqrt(mean(c * c) + epsilon)`
    and upstream gradients hx, hg and hb of dx, grad_gamma and grad_beta, for

        dx = gamma * i * (dy - mean(dy) - c * i ** 2 * mean(dy * c))
    """
    import tensorflow as tf

    def mean(values):
        return tf.reduce_mean(values, [0, 1, 2])

    (hx, hg, hb), dtype = upstream, x.dtype
    hx, dy, c = (tf.cast(each, "float32") for each in (hx, dy, x))
    c -= mean(c)
    hx_centered, dy_centered = hx - mean(hx), dy - mean(dy)
    i = tf.math.rsqrt(mean(tf.square(c)) + epsilon)
    p, q, both = mean(hx * c), mean(dy * c), mean(hx_centered * dy_centered)
    grad_dy = gamma * i * (hx_centered - c * i**2 * p) + hg * i * c + hb
    grad_x = 3 * i**2 * p * q - both
    grad_x = gamma * i**3 * (c * grad_x - hx_centered * q - dy_centered * p)
    grad_x += hg * i * (dy_centered - c * i**2 * q)
    count = tf.cast(tf.size(c) // c.shape[-1], "float32")
    grad_gamma = i * count * (both - i**2 * p * q)
    return tf.cast(grad_dy, dtype), tf.cast(grad_x, dtype), grad_gamma


def fused_infer(settings, inputs, mean, variance, gamma, beta):
    """Normalize by given statistics in one pass, exactly: the kernel subtracts the mean first.

    Args:
        settings: `bnzoo.ops.kernels.Settings`.
        inputs: as in `fused_batch_norm`, with the channels last.
        mean: float32 tensor of shape (channels,), as are variance, gamma and beta.
        variance: at least 0.
        gamma: tensor.
        beta: tensor.

    Returns:
        Tensor of the shape of `inputs`.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def forward(inputs, mean, variance, gamma, beta):
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=_to_kernel(inputs, -1),
            scale=gamma,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=settings.epsilon,
            is_training=False,
        )[0]

        def backward(dy):
            # The kernel's own gradient knows nothing of mean and variance.
            dy, inverse = tf.cast(dy, "float32"), tf.math.rsqrt(variance + settings.epsilon)
            scale, axes = gamma * inverse, list(range(inputs.ndim - 1))
            grad_beta = tf.reduce_sum(dy, axes)
            grad_scale = tf.reduce_sum(dy * (tf.cast(inputs, "float32") - mean), axes)
            grad_variance = -0.5 * grad_scale * scale * inverse**2
            dx = tf.cast(dy * scale, inputs.dtype)
            return dx, -scale * grad_beta, grad_variance, grad_scale * inverse, grad_beta

        return tf.cast(_from_kernel(outputs, inputs, -1), settings.dtype), backward

    return forward(inputs, mean, variance, gamma, beta)


def _to_kernel(x, axis):
    """Bring a tensor of 2 to 5 dimensions to (batch, height, width, channels)."""
    # oneDNN has no kernel for float16.
    if keras.backend.standardize_dtype(x.dtype) == "float16":
        x = ops.cast(x, "float32")
    if axis % x.ndim != x.ndim - 1:
        x = ops.moveaxis(x, axis, -1)
    shape = ops.shape(x)
    if x.ndim == 5:
        return ops.reshape(x, (shape[0], shape[1] * shape[2], *shape[3:]))
    if x.ndim < 4:
        # A matrix as (rows, 1, 1, channels): the kernel's inference has one thread otherwise.
        return ops.reshape(x, (shape[0], shape[1] if x.ndim == 3 else 1, 1, shape[-1]))
    return x


def _from_kernel(values, like, axis):
    """Undo `_to_kernel` for a tensor of the shape of `like`."""
    axis %= like.ndim
    shape = list(ops.shape(like))
    shape.append(shape.pop(axis))
    if like.ndim != 4:
        values = ops.reshape(values, shape)
    return values if axis == like.ndim - 1 else ops.moveaxis(values, -1, axis)
