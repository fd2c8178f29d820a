"""What is left of a batch normalization in inference: constants, applied channel by channel."""

import keras
from keras import ops

from bnzoo.layers import arguments
from bnzoo.ops import along_channels, scale_and_shift, statistics_dtype


@keras.saving.register_keras_serializable(package="bnzoo")
class MultiplyAdd(keras.layers.Layer):
    """Return `(x - center) * scale + offset`, channel by channel, each part only where it is used.

    `bnzoo.fold_batch_norm` puts it where batch normalization cannot be merged into a neighbor.
    With a center, as in the normalization itself, values far from zero lose no digits. Like
    batch normalization it computes in at least float32.

    Args:
        axis: integer in [-ndim, ndim), the axis that holds the channels.
        center: subtract `center`.
        scale: multiply by `scale`.
        offset: add `offset`.
        **kwargs: arguments of every layer: `name`, `dtype`, `trainable`.

    Call arguments:
        inputs: float tensor of shape (batch, ..., channels, ...), of any rank.

    Returns:
        Tensor of the shape of `inputs`, in the layer's compute dtype.

    Example:
        >>> import numpy as np
        >>> layer = MultiplyAdd(offset=False)
        >>> layer.build((None, 2))
        >>> layer.set_weights([np.array([1.0, 2.0]), np.array([10.0, 100.0])])
        >>> layer(np.array([[3.0, 5.0]], "float32")).numpy().tolist()
        [[20.0, 300.0]]
    """

    def __init__(self, axis=-1, center=True, scale=True, offset=True, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.axis = arguments.check_axis(axis)
        self.uses = {"center": bool(center), "scale": bool(scale), "offset": bool(offset)}

    def build(self, input_shape):
        """Make one weight of shape (channels,) for each part that is used."""
        channels = arguments.check_channels(self.axis, input_shape)
        for name, used in self.uses.items():
            initializer = "ones" if name == "scale" else "zeros"
            weight = self.add_weight((channels,), initializer, name=name) if used else None
            setattr(self, name, weight)

    def call(self, inputs):
        """Apply the parts that are used."""
        dtype = statistics_dtype(inputs.dtype)
        center, scale, offset = (
            None if weight is None else ops.cast(weight, dtype)
            for weight in (self.center, self.scale, self.offset)
        )
        outputs = ops.cast(inputs, dtype)
        if center is not None:
            outputs = outputs - along_channels(center, outputs.ndim, self.axis)
        outputs = scale_and_shift(outputs, scale, offset, self.axis)
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def get_config(self):
        """Return every argument of the constructor."""
        return super().get_config() | {"axis": self.axis, **self.uses}
