"""The batch normalization layer: weights, axis, mask, dtype and the training switch."""

import keras
from keras import ops

from bnzoo.exclusive import check_combination
from bnzoo.layers import arguments
from bnzoo.ops import (
    Choice,
    Settings,
    batch_norm,
    choose_kernel,
    describe,
    infer,
    moving,
    scale_and_shift,
    statistics_dtype,
)
from bnzoo.versions import KerasBatchNormalization

# The arguments that Keras' layer lacks, and their defaults.
EXTRAS = {
    "implementation": "auto",
    "virtual_batch_size": None,
    "unbiased_moving_variance": False,
    "frozen_statistics": False,
}


@keras.saving.register_keras_serializable(package="bnzoo")
class BatchNormalization(KerasBatchNormalization):
    """Normalize each channel by the batch's mean and variance, a drop-in for Keras' layer.

    In training `y = (x - mean) * (gamma * rsqrt(variance + epsilon)) + beta` with the statistics
    of the batch, over every axis but `axis`; the moving statistics then follow:

        moving_mean = moving_mean * momentum + mean * (1 - momentum)
        moving_variance = moving_variance * momentum + variance * (1 - momentum)

    In inference, and in training while `trainable` is False or `frozen_statistics` is True, the
    same formula takes the moving statistics instead, and they stay as they are. It is one of Keras'
    layers (`isinstance` of `keras.layers.BatchNormalization`), so the usual ways to find and freeze
    batch normalization work, and its config is Keras' as long as no other argument than Keras' is
    in use.

    Statistics are taken in float32 for float16, bfloat16 and float32 inputs, and in float64 for
    float64; the output has the layer's compute dtype and the input's shape. Weights, each of
    shape (channels,) and in the policy's variable dtype, come in Keras' order: gamma (if `scale`),
    beta (if `center`), moving_mean, moving_variance, and with `renorm` moving_stddev, renorm_mean,
    renorm_stddev.

    A batch that is empty or fully masked, or whose statistics are not finite, leaves the moving
    statistics as they are; its output shows the NaN (Keras' layer keeps NaN for good). A channel
    without a sample has mean 0 and variance 0, and its output is finite.

    Gradients flow through outputs and, as in Keras' layer, through the new moving statistics that
    `stateless_call` returns; only the fused kernel's statistics have none. Higher orders, forward
    mode, `jax.vmap`, `lax.scan` and `tf.vectorized_map` work as for Keras' layer.

    What combines with what; a `-` is an error of the constructor, `call` one of the call:

        |                          | mask | synchronized | virtual_batch_size | renorm | fused |
        |--------------------------|------|--------------|--------------------|--------|-------|
        | synchronized             | yes  |              | -                  | yes    | -     |
        | virtual_batch_size       | yes  | -            |                    | -      | -     |
        | renorm                   | yes  | yes          | -                  |        | yes   |
        | unbiased_moving_variance | yes  | yes          | yes                | -      | yes   |
        | momentum=None            | yes  | yes          | yes                | yes    | yes   |
        | implementation="fused"   | call | -            | -                  | yes    |       |

    The other implementations take everything.

    Args:
        axis: integer in [-ndim, ndim), the axis that holds the channels: -1 as in Keras' default
            data format, 1 for channels first.
        momentum: share of the old moving average that each step keeps, in [0, 1]. The default,
            Keras' 0.99, follows the last few hundred steps. None averages over all steps alike; the
            number of them is one more weight, `num_batches`, of shape () and the last one, at least
            in float32 and one for all channels.
        epsilon: number of at least 0, in the unit of the variance: keeps a constant channel from
            a division by zero. The default 0.001 is Keras'.
        center: add `beta`.
        scale: multiply by `gamma`. Not needed where the next layer is linear.
        beta_initializer: initializer of `beta`.
        gamma_initializer: initializer of `gamma`.
        moving_mean_initializer: initializer of `moving_mean`.
        moving_variance_initializer: initializer of `moving_variance`; with `renorm` both moving
            standard deviations start at its root.
        beta_regularizer: regularizer of `beta`, or None.
        gamma_regularizer: regularizer of `gamma`, or None.
        beta_constraint: constraint on `beta`, or None.
        gamma_constraint: constraint on `gamma`, or None.
        renorm: use batch renormalization in training: `x_hat * r + d` stands for `x_hat`, where
            the corrections r and d (constants to the gradient) lead from this batch's statistics
            to moving ones. Inference is the same either way.
        renorm_clipping: dict with any of the keys `"rmin"`, `"rmax"` (bounds of r, at least 0,
            without them 0 and infinity) and `"dmax"` (d stays in [-dmax, dmax]), or None.
        renorm_momentum: share of the old value that `renorm_mean` and `renorm_stddev` keep, in
            [0, 1]; unlike `momentum` it affects training.
        synchronized: take the statistics over the batches of all replicas, merged exactly, under a
            `tf.distribute` strategy; replicas may hold uneven or no samples. Without a strategy
            there is nothing to merge. TensorFlow backend only.
        implementation: `"auto"` chooses for each input, when the call is traced, by the table in
            `bnzoo.ops.kernels`; `"reference"` is plain operations; `"fused"` TensorFlow's fused
            kernel for a CPU, and plain operations where it is inexact; `"xla"` one computation that
            XLA compiles, anew for every size (`synchronized`: only where the whole step is
            compiled). All agree but for rounding. See `implementation_for`.
        virtual_batch_size: examples of a ghost batch, at least 2: in training each so many examples
            are normalized by their own statistics, and what is left over forms a smaller ghost. The
            moving statistics follow the mean over ghosts, weighted by their samples. None: the
            whole batch at once.
        unbiased_moving_variance: let `moving_variance` follow `variance * n / (n - 1)` for n
            samples a channel (n = 1: the variance itself), as PyTorch does. The default is Keras':
            the variance divided by n.
        frozen_statistics: normalize by the moving statistics in training too, and leave them as
            they are, while gamma and beta learn; `trainable=False` keeps all four. It combines
            with every other argument. See `bnzoo.freeze_batch_norm`.
        **kwargs: arguments of every layer: `name`, `dtype`, `trainable`.

    Call arguments:
        inputs: float tensor of shape (batch, ..., channels, ...), of any rank; the position of the
            channels is `axis`. Integers are taken as float32. Or a `tf.RaggedTensor` with the
            channels last, without mask and ghosts.
        training: True normalizes by the batch and moves the averages; False, or None, is inference.
        mask: bool tensor of the shape of `inputs` without the channel axis, each dimension equal or
            1; or None. Where it is False, a position counts in no statistic; its output is
            normalized like any other. Numbers are taken as `mask != 0`. A mask that fits only
            without the last axis instead, as `keras.layers.Masking` makes it for channels-first
            inputs, is taken so.

    Returns:
        Tensor of the shape of `inputs`, in the layer's compute dtype.

    Raises:
        ValueError: an argument is out of its range or unknown, `axis` is not an integer,
            `renorm_clipping` has unknown keys or crossed bounds, two arguments do not combine, or
            `synchronized` or `implementation="fused"` comes with another backend than TensorFlow;
            on the first call, the input has no such axis or an unknown number of channels; on any
            call, the mask does not fit, or the fused kernel was asked for and cannot take it.
        TypeError: an input of `tf_keras`.

    Source:
        Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.1, Algorithm 1. The paper's inference
        uses the unbiased variance, m / (m - 1) times the mean over training batches; here
        `moving_variance` is the biased one (divided by n), as in Keras, unless
        `unbiased_moving_variance` is set. Batch renormalization: Ioffe 2017, arXiv 1702.03275,
        Algorithm 1; as in Keras r has two separate bounds, and `moving_variance` is
        `moving_stddev ** 2 - epsilon`. Ghost batches: Hoffer, Hubara and Soudry 2017, arXiv
        1705.08741, Algorithm 1, where the moving statistics take a step per ghost instead.

    PyTorch: `torch.nn.BatchNorm2d(C, eps=1e-5, momentum=m)` is
    `BatchNormalization(axis=1, epsilon=1e-5, momentum=1 - m, unbiased_moving_variance=True)`, so
    its default m = 0.1 is `momentum=0.9`; its weight, bias, running_mean and running_var are
    gamma, beta, moving_mean and moving_variance, in that order.

    Example:
        >>> import numpy as np
        >>> layer = BatchNormalization(momentum=0.9)
        >>> x = np.array([[1.0, 10.0], [3.0, 30.0]], "float32")
        >>> layer(x, training=True).numpy().round(2).tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
        >>> layer.moving_mean.numpy().round(2)
        array([0.2, 2. ], dtype=float32)

        PyTorch's `BatchNorm1d(102, affine=False)`, which has nothing to learn:

        >>> layer = BatchNormalization(
        ...     momentum=0.9,
        ...     epsilon=1e-5,
        ...     center=False,
        ...     scale=False,
        ...     unbiased_moving_variance=True,
        ... )
        >>> x = np.random.default_rng(0).normal(5.0, 2.0, size=(22, 102))
        >>> y = layer(x, training=True).numpy()
        >>> y.shape, len(layer.trainable_weights)
        ((22, 102), 0)
        >>> bool(np.abs(y.mean(0)).max() < 1e-5), bool(np.abs(y.std(0) - 1).max() < 1e-4)
        (True, True)
        >>> expected = 0.9 + 0.1 * x.var(0, ddof=1)
        >>> bool(np.allclose(layer.moving_variance, expected, rtol=1e-5))
        True
    """

    def __init__(
        self,
        axis=-1,
        momentum=0.99,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        renorm=False,
        renorm_clipping=None,
        renorm_momentum=0.99,
        synchronized=False,
        *,
        implementation="auto",
        virtual_batch_size=None,
        unbiased_moving_variance=False,
        frozen_statistics=False,
        **kwargs,
    ):
        axis = arguments.check_axis(axis)
        if momentum is not None:
            momentum = arguments.check_momentum("momentum", momentum)
        if renorm:
            # Without renorm both are kept as they came, unread, as Keras does.
            renorm_clipping = arguments.check_renorm_clipping(renorm_clipping)
            renorm_momentum = arguments.check_momentum("renorm_momentum", renorm_momentum)
        synchronized = arguments.check_synchronized(synchronized)
        implementation = arguments.check_implementation(implementation)
        virtual_batch_size = arguments.check_virtual_batch_size(virtual_batch_size)
        check_combination(
            renorm=renorm,
            unbiased_moving_variance=unbiased_moving_variance,
            synchronized=synchronized,
            virtual_batch_size=virtual_batch_size,
            implementation=implementation,
        )
        super().__init__(
            axis=axis,
            momentum=0.99 if momentum is None else momentum,
            epsilon=arguments.check_epsilon(epsilon),
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            renorm=renorm,
            renorm_clipping=renorm_clipping,
            renorm_momentum=renorm_momentum,
            synchronized=synchronized,
            **kwargs,
        )
        self.momentum = momentum
        self.implementation = implementation
        self.virtual_batch_size = virtual_batch_size
        self.unbiased_moving_variance = unbiased_moving_variance
        self.frozen_statistics = frozen_statistics
        self.num_batches = None
        # Called in each training step with a bool tensor: may the moving statistics follow the
        # batch, or each of its channels? See `bnzoo.BadBatches`.
        self.batch_observer = None

    def build(self, input_shape):
        """Create the weights, one entry per channel.

        Args:
            input_shape: tuple of integers, None where unknown; the channel dimension is known.
        """
        arguments.check_channels(self.axis, input_shape)
        if self.virtual_batch_size is not None:
            arguments.check_ghost_axis(self.axis, len(input_shape))
        super().build(input_shape)
        if self.momentum is None:
            self.num_batches = self.add_weight(
                shape=(),
                name="num_batches",
                initializer="zeros",
                # bfloat16 cannot count past 256.
                dtype=statistics_dtype(self.variable_dtype),
                trainable=False,
                autocast=False,
            )

    def compute_output_shape(self, input_shape):
        """Return the input's shape, once the axis is known to be in it."""
        arguments.check_axis_in_shape(self.axis, input_shape)
        return input_shape

    def call(self, inputs, training=None, mask=None):
        """Normalize by the batch in training, by the moving statistics otherwise."""
        arguments.check_inputs(inputs)
        settings, ragged = self._settings(len(inputs.shape)), None
        if arguments.is_ragged(inputs):
            arguments.check_ragged(settings.axis, mask, self.virtual_batch_size)
            ragged, inputs = inputs, inputs.flat_values
        if mask is not None:
            missing = arguments.check_mask_shape(mask.shape, inputs.shape, self.axis)
            mask = ops.expand_dims(mask, missing)
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype)):
            inputs = ops.cast(inputs, statistics_dtype(inputs.dtype))
        gamma, beta = self.gamma if self.scale else None, self.beta if self.center else None
        if self.frozen_statistics or not (training and self.trainable):
            outputs = infer(inputs, self.moving_mean, self.moving_variance, gamma, beta, settings)
        elif self.renorm:
            outputs = self._renormalize(inputs, gamma, beta, mask, settings)
        else:
            outputs, mean, variance, count = batch_norm(inputs, gamma, beta, mask, settings)
            self._move(mean, variance, count)
        return outputs if ragged is None else ragged.with_flat_values(outputs)

    def implementation_for(self, inputs, mask=None) -> Choice:
        """Say which way a training batch would go if it were traced here and now.

        Args:
            inputs: tensor, `keras.Input` or `tf.TensorSpec`: anything with a shape, in which None
                is unknown, and a dtype.
            mask: the call's mask, or None.

        Returns:
            A named tuple: `implementation` (`"reference"`, `"fused"` or `"xla"`) and `reason`.

        Raises:
            ValueError: the layer's implementation cannot take this input.

        Example:
            >>> layer = BatchNormalization()
            >>> layer.implementation_for(keras.Input((32, 32, 6))).implementation
            'reference'
        """
        arguments.check_axis_in_shape(self.axis, inputs.shape)
        cast = keras.KerasTensor(tuple(inputs.shape), arguments.dtype_in_call(inputs.dtype, self))
        settings = self._settings(len(inputs.shape))
        return choose_kernel(describe(cast, mask is not None, settings), self.implementation)

    def _settings(self, ndim):
        return Settings(
            # From the end, which flat values of a ragged tensor share with it.
            axis=int(self.axis) % ndim - ndim,
            epsilon=float(self.epsilon),
            dtype=self.compute_dtype,
            implementation=self.implementation,
            synchronized=self.synchronized,
            virtual_batch_size=self.virtual_batch_size,
            unbiased=self.unbiased_moving_variance,
        )

    def _renormalize(self, inputs, gamma, beta, mask, settings):
        dtype = statistics_dtype(inputs.dtype)
        # In the statistics' dtype: rounding waits until the corrections have been applied.
        inputs, settings = ops.cast(inputs, dtype), settings._replace(dtype=dtype)
        normalized, mean, variance, count = batch_norm(inputs, None, None, mask, settings)
        scale, shift = moving.renorm_corrections(
            mean,
            variance,
            ops.cast(self.renorm_mean, dtype),
            ops.cast(self.renorm_stddev, dtype),
            epsilon=self.epsilon,
            clipping=self.renorm_clipping,
        )
        if gamma is not None:
            scale, shift = scale * ops.cast(gamma, dtype), shift * ops.cast(gamma, dtype)
        if beta is not None:
            shift = shift + ops.cast(beta, dtype)
        outputs = scale_and_shift(normalized, scale, shift, settings.axis)
        self._move_renorm(mean, variance, count)
        return ops.cast(outputs, self.compute_dtype)

    def _move(self, mean, variance, count):
        """Let the moving statistics follow a batch."""
        valid = moving.has_statistics(variance, count)
        rate = self._update_rate(valid)
        _assign_average(self.moving_mean, mean, valid, rate)
        _assign_average(self.moving_variance, variance, valid, rate)

    def _move_renorm(self, mean, variance, count):
        valid, stddev = (
            moving.has_statistics(variance, count),
            moving.renorm_stddev(variance, self.epsilon),
        )
        _assign_average(self.renorm_mean, mean, valid, 1.0 - self.renorm_momentum)
        _assign_average(self.renorm_stddev, stddev, valid, 1.0 - self.renorm_momentum)
        rate = self._update_rate(valid)
        _assign_average(self.moving_mean, mean, valid, rate)
        moved = _assign_average(self.moving_stddev, stddev, valid, rate)
        derived = moving.renorm_moving_variance(moved, epsilon=self.epsilon)
        _assign_average(self.moving_variance, derived, valid, 1.0)

    def _update_rate(self, valid):
        """Count a batch, and return how much of it the moving statistics take up."""
        if self.batch_observer is not None:
            self.batch_observer(valid)
        if self.momentum is not None:
            return 1.0 - self.momentum
        rate, num_batches = moving.cumulative_rate(valid, ops.convert_to_tensor(self.num_batches))
        self.num_batches.assign(num_batches)
        return rate

    def get_config(self):
        """Return the arguments of the constructor; those that Keras' lacks only where in use."""
        own = {name: getattr(self, name) for name in EXTRAS}
        used = {name: value for name, value in own.items() if value != EXTRAS[name]}
        return super().get_config() | used


def _assign_average(weight, value, valid, update_rate):
    """Move a variable towards a value where that is valid, and return where it is now.

    In the wider of both dtypes, so that neither is rounded on the way.
    """
    dtype = statistics_dtype(weight.dtype, value.dtype)
    average = ops.cast(weight, dtype)
    # A Python number stays one: made a tensor, it would be rounded to float32.
    if not isinstance(update_rate, float):
        update_rate = ops.cast(update_rate, dtype)
    moved = moving.moving_average(
        average, ops.where(valid, ops.cast(value, dtype), average), update_rate
    )
    weight.assign(moved)
    return moved
