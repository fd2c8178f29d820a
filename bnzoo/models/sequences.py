"""Layers that keep padded steps of sequences out: explicit masks instead of Keras' implicit ones.

Keras' convolutions do not understand masks and warn when they meet one, so the mask here is an
ordinary tensor that is shortened as the convolution shortens the sequence.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="bnzoo")
class PadSteps(keras.layers.Layer):
    """Append `count` padded steps, so that a batch of short sequences still fits a kernel.

    Without it a batch that holds only sequences shorter than the kernel would be an error (and one
    without any step kills TensorFlow's process), while the same sequences beside a longer one are
    none.

    Args:
        count: number of steps to append.
        mask_value: value of every feature of a padded step.
    """

    def __init__(self, count: int, mask_value: float, **kwargs):
        # No autocast: rounded to float16, real steps close to the mask value would look padded.
        super().__init__(autocast=False, **kwargs)
        self.count = count
        self.mask_value = mask_value

    def call(self, inputs):
        """Append to a tensor of shape (batch, steps, features)."""
        widths = [[0, 0], [0, self.count], [0, 0]]
        return ops.pad(inputs, widths, constant_values=self.mask_value)

    def compute_output_spec(self, inputs):
        """Return shape (batch, steps + count, features) and the dtype of the input."""
        batch, steps, features = inputs.shape
        longer = None if steps is None else steps + self.count
        return keras.KerasTensor((batch, longer, features), dtype=inputs.dtype)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "count": self.count, "mask_value": self.mask_value}


@keras.saving.register_keras_serializable(package="bnzoo")
class ValidSteps(keras.layers.Layer):
    """Tell which output steps of a valid convolution have seen real steps only.

    A step is padding when all its features equal `mask_value`. An output step counts when none of
    the `kernel_size` input steps under its kernel is padding.

    Args:
        kernel_size: of the convolution that the mask is for.
        mask_value: value of every feature of a padded step.
    """

    def __init__(self, kernel_size: int, mask_value: float, **kwargs):
        super().__init__(autocast=False, **kwargs)  # as in PadSteps
        self.kernel_size = kernel_size
        self.mask_value = mask_value

    def call(self, inputs):
        """Return a bool tensor of shape (batch, steps - kernel_size + 1)."""
        mask_value = ops.cast(self.mask_value, inputs.dtype)
        is_padding = ops.all(ops.equal(inputs, mask_value), axis=-1, keepdims=True)
        touches_padding = ops.max_pool(
            ops.cast(is_padding, "float32"),
            self.kernel_size,
            strides=1,
            padding="valid",
            data_format="channels_last",
        )
        return ops.equal(ops.squeeze(touches_padding, axis=-1), 0)

    def compute_output_spec(self, inputs):
        """Return shape (batch, steps - kernel_size + 1) and dtype bool."""
        batch, steps, _ = inputs.shape
        shorter = None if steps is None else steps - self.kernel_size + 1
        return keras.KerasTensor((batch, shorter), dtype="bool")

    def get_config(self):
        """Return the constructor's arguments."""
        config = {"kernel_size": self.kernel_size, "mask_value": self.mask_value}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="bnzoo")
class MaskedAveragePooling(keras.layers.Layer):
    """Average over the steps that count; a sequence without any gives zeros.

    `keras.layers.GlobalAveragePooling1D` divides by the number of those steps, so it returns NaN
    for a sequence without any, and sums in float16 under mixed precision.
    """

    def call(self, inputs, mask):
        """Average over steps.

        Args:
            inputs: float tensor of shape (batch, steps, channels).
            mask: bool tensor of shape (batch, steps).

        Returns:
            A tensor of shape (batch, channels).
        """
        counts = ops.expand_dims(mask, axis=-1)
        # `where`, as a product would let infinite or missing values of padded steps through.
        kept = ops.where(counts, ops.cast(inputs, self.variable_dtype), 0)
        number = ops.sum(ops.cast(counts, self.variable_dtype), axis=1)
        average = ops.sum(kept, axis=1) / ops.maximum(number, 1)
        return ops.cast(average, self.compute_dtype)

    def compute_mask(self, inputs, previous_mask):
        """Return no mask: there are no steps left."""
        return

    def compute_output_shape(self, input_shape):
        """Return (batch, channels)."""
        return (input_shape[0], input_shape[2])
