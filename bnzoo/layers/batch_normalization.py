"""The batch normalization layer: weights, axis, mask, dtype and the training switch."""

import keras
from keras import constraints, initializers, ops, regularizers

from bnzoo.layers import arguments
from bnzoo.layers.initializers import copy_of, root_of
from bnzoo.ops import (
    Settings,
    choose_implementation,
    cumulative_share,
    move,
    normalize_batch,
    normalize_by_moving,
    renorm_corrections,
    renorm_moving_variance,
    scale_and_shift,
    statistics_dtype,
)
from bnzoo.ops.moving_average import AS_THEY_ARE
from bnzoo.ops.renorm import renorm_stddev
from bnzoo.ops.shapes import cast_if_given


@keras.saving.register_keras_serializable(package="bnzoo")
class BatchNormalization(keras.layers.Layer):
    """Normalise each channel by the batch's mean and variance, a drop-in for Keras' layer.

    In training `y = (x - mean) * (gamma * rsqrt(variance + epsilon)) + beta` with the statistics
    of the batch, over every axis but `axis`; the moving statistics then follow:

        moving_mean = moving_mean * momentum + mean * (1 - momentum)
        moving_variance = moving_variance * momentum + variance * (1 - momentum)

    In inference, and in training while `trainable` is False, the same formula takes the moving
    statistics instead, and they stay as they are.

    Statistics are taken in float32 for float16, bfloat16 and float32 inputs, and in float64 for
    float64; the output has the layer's compute dtype and the input's shape. Weights, each of
    shape (channels,) and in the policy's variable dtype, come in Keras' order: gamma (if `scale`),
    beta (if `center`), moving_mean, moving_variance, and with `renorm` moving_stddev, renorm_mean,
    renorm_stddev.

    A batch that is empty or fully masked, or whose statistics are not finite, leaves the moving
    statistics as they are; its output shows the NaN (Keras' layer keeps NaN for good). A channel
    without a sample has mean 0 and variance 0, and its output is finite.

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
            `bnzoo.ops.rules`; `"reference"` is plain operations; `"fused"` TensorFlow's fused
            kernels, with a second call where they are inexact; `"xla"` one computation that XLA
            compiles. All agree but for rounding. See `implementation_for`.
        virtual_batch_size: examples of a ghost batch, at least 2: in training each so many examples
            are normalised by their own statistics, and what is left over forms a smaller ghost. The
            moving statistics follow the mean over ghosts, weighted by their samples. None: the
            whole batch at once.
        unbiased_moving_variance: let `moving_variance` follow `variance * n / (n - 1)` for n
            samples a channel (n = 1: the variance itself), as PyTorch does. The default is Keras':
            the variance divided by n.
        **kwargs: arguments of every layer: `name`, `dtype`, `trainable`.

    Call arguments:
        inputs: float tensor of shape (batch, ..., channels, ...), of any rank; the position of the
            channels is `axis`. Integers are taken as float32.
        training: True normalises by the batch and moves the averages; False, or None, is inference.
        mask: bool tensor of the shape of `inputs` without the channel axis, each dimension equal or
            1; or None. Where it is False, a position counts in no statistic; its output is
            normalised like any other. Numbers are taken as `mask != 0`. A mask that fits only
            without the last axis instead, as `keras.layers.Masking` makes it for channels-first
            inputs, is taken so.

    Returns:
        Tensor of the shape of `inputs`, in the layer's compute dtype.

    Raises:
        ValueError: an argument is out of its range or unknown, `axis` is not an integer,
            `renorm_clipping` has unknown keys or crossed bounds, two arguments do not combine, or
            `synchronized` or `implementation="fused"` comes with another backend than TensorFlow;
            on the first call, the input has no such axis or an unknown number of channels; on any
            call, the mask does not fit, or the fused kernels were asked for and cannot take it.

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.axis = arguments.check_axis(axis)
        self.momentum = None if momentum is None else arguments.check_momentum("momentum", momentum)
        self.epsilon = arguments.check_epsilon(epsilon)
        self.center = center
        self.scale = scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.renorm = renorm
        # Without renorm both are kept as they came, unread, as Keras does.
        self.renorm_clipping = renorm_clipping
        self.renorm_momentum = renorm_momentum
        if renorm:
            self.renorm_clipping = arguments.check_renorm_clipping(renorm_clipping)
            self.renorm_momentum = arguments.check_momentum("renorm_momentum", renorm_momentum)
        self.synchronized = arguments.check_synchronized(synchronized)
        self.implementation = arguments.check_implementation(implementation)
        self.virtual_batch_size = arguments.check_virtual_batch_size(virtual_batch_size)
        self.unbiased_moving_variance = unbiased_moving_variance
        arguments.check_combination(
            renorm=renorm,
            unbiased_moving_variance=unbiased_moving_variance,
            synchronized=synchronized,
            virtual_batch_size=virtual_batch_size,
            implementation=implementation,
        )
        self.gamma = None
        self.beta = None
        self.num_batches = None
        # Called with the count of samples of each training batch, 0 for one that moved nothing;
        # see `bnzoo.BadBatches`.
        self.batch_observer = None

    def build(self, input_shape):
        """Create the weights, one entry per channel.

        Args:
            input_shape: tuple of integers, None where unknown; the channel dimension is known.
        """
        channels = arguments.check_channels(self.axis, input_shape)
        if self.virtual_batch_size is not None:
            arguments.check_ghost_axis(self.axis, len(input_shape))
        if self.scale:
            self.gamma = self._add_learned("gamma", channels)
        if self.center:
            self.beta = self._add_learned("beta", channels)
        mean, variance = self.moving_mean_initializer, self.moving_variance_initializer
        self.moving_mean = self._add_moving("moving_mean", channels, mean)
        self.moving_variance = self._add_moving("moving_variance", channels, variance)
        if self.renorm:
            stddev = root_of(variance)
            self.moving_stddev = self._add_moving("moving_stddev", channels, stddev)
            self.renorm_mean = self._add_moving("renorm_mean", channels, copy_of(mean))
            self.renorm_stddev = self._add_moving("renorm_stddev", channels, stddev)
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
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def _add_learned(self, name, channels):
        return self.add_weight(
            shape=(channels,),
            name=name,
            initializer=getattr(self, f"{name}_initializer"),
            regularizer=getattr(self, f"{name}_regularizer"),
            constraint=getattr(self, f"{name}_constraint"),
            autocast=False,
        )

    def _add_moving(self, name, channels, initializer):
        # autocast=False: a moving variance of 70,000 is infinite in float16.
        return self.add_weight(
            shape=(channels,), name=name, initializer=initializer, trainable=False, autocast=False
        )

    def compute_output_shape(self, input_shape):
        """Return the input's shape, once the axis is known to be in it."""
        arguments.check_axis_in_shape(self.axis, input_shape)
        return input_shape

    def call(self, inputs, training=None, mask=None):
        """Normalise by the batch in training, by the moving statistics otherwise."""
        if mask is not None:
            missing = arguments.check_mask_shape(mask.shape, inputs.shape, self.axis)
            mask = ops.expand_dims(mask, missing)
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype)):
            inputs = ops.cast(inputs, statistics_dtype(inputs.dtype))
        if not (training and self.trainable):
            return self._infer(inputs)
        return self._renormalize(inputs, mask) if self.renorm else self._normalize(inputs, mask)

    def implementation_for(self, inputs, mask=None):
        """Say which way a training batch would go if it were traced here and now.

        Args:
            inputs: tensor, `keras.Input` or `tf.TensorSpec`: anything with a shape, in which None
                is unknown, and a dtype.
            mask: the call's mask, or None.

        Returns:
            A named tuple: `implementation` (`"reference"`, `"fused"` or `"xla"`), `reason`, and
            `by_size`: whether small batches of this input take `"reference"` after all.

        Raises:
            ValueError: the layer's implementation cannot take this input.

        Example:
            >>> layer = BatchNormalization()
            >>> layer.implementation_for(keras.Input((32, 32, 6))).implementation
            'reference'
        """
        arguments.check_axis_in_shape(self.axis, inputs.shape)
        cast = keras.KerasTensor(tuple(inputs.shape), arguments.dtype_in_call(inputs.dtype, self))
        return choose_implementation(cast, mask is not None, self._settings())[1]

    def _settings(self, dtype=None):
        return Settings(
            axis=self.axis,
            epsilon=self.epsilon,
            dtype=dtype or self.compute_dtype,
            implementation=self.implementation,
            synchronized=self.synchronized,
            virtual_batch_size=self.virtual_batch_size,
            unbiased=self.unbiased_moving_variance,
        )

    def _infer(self, inputs):
        weights = self.moving_mean, self.moving_variance, self.gamma, self.beta
        return normalize_by_moving(inputs, *weights, settings=self._settings())

    def _normalize(self, inputs, mask):
        # A batch that cannot be used gives back the moving statistics, and moves them nowhere.
        weights = self.moving_mean, self.moving_variance
        stay = [ops.convert_to_tensor(weight) for weight in weights]
        outputs, mean, variance, count = normalize_batch(
            inputs, self.gamma, self.beta, mask, stay, settings=self._settings()
        )
        share = self._share(count)
        for weight, value, average in zip(weights, (mean, variance), stay, strict=True):
            move(weight, value, share, average)
        return outputs

    def _renormalize(self, inputs, mask):
        dtype = statistics_dtype(inputs.dtype)
        # In the statistics' dtype: rounding waits until both corrections have been applied.
        inputs = ops.cast(inputs, dtype)
        normalized, mean, variance, count = normalize_batch(
            inputs, mask=mask, otherwise=AS_THEY_ARE, settings=self._settings(dtype)
        )
        r, d = renorm_corrections(
            mean,
            variance,
            ops.cast(self.renorm_mean, dtype),
            ops.cast(self.renorm_stddev, dtype),
            epsilon=self.epsilon,
            clipping=self.renorm_clipping,
        )
        outputs = scale_and_shift(normalized, r, d, self.axis)
        learned = (cast_if_given(weight, dtype) for weight in (self.gamma, self.beta))
        outputs = scale_and_shift(outputs, *learned, self.axis)
        self._move_renorm(mean, variance, count)
        return ops.cast(outputs, self.compute_dtype)

    def _share(self, count):
        """Return how much of a batch the moving statistics take up."""
        if self.batch_observer is not None:
            self.batch_observer(count)
        if self.momentum is not None:
            return 1.0 - self.momentum
        share, num_batches = cumulative_share(count, self.num_batches)
        self.num_batches.assign(num_batches)
        return share

    def _move_renorm(self, mean, variance, count):
        def towards(weight, value, share):
            average = ops.cast(weight, variance.dtype)
            return move(weight, ops.where(count > 0, value, average), share, average)

        stddev = renorm_stddev(variance, self.epsilon)
        towards(self.renorm_mean, mean, 1.0 - self.renorm_momentum)
        towards(self.renorm_stddev, stddev, 1.0 - self.renorm_momentum)
        share = self._share(count)
        towards(self.moving_mean, mean, share)
        moving_stddev = towards(self.moving_stddev, stddev, share)
        derived = renorm_moving_variance(moving_stddev, epsilon=self.epsilon)
        towards(self.moving_variance, derived, 1.0)

    def get_config(self):
        """Return every argument of the constructor."""
        return super().get_config() | {
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": initializers.serialize(self.beta_initializer),
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
            "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
            "beta_regularizer": regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": constraints.serialize(self.beta_constraint),
            "gamma_constraint": constraints.serialize(self.gamma_constraint),
            "renorm": self.renorm,
            "renorm_clipping": self.renorm_clipping,
            "renorm_momentum": self.renorm_momentum,
            "synchronized": self.synchronized,
            "implementation": self.implementation,
            "virtual_batch_size": self.virtual_batch_size,
            "unbiased_moving_variance": self.unbiased_moving_variance,
        }
