"""A small residual network for images, with batch normalization where a config wants it."""

import keras
from keras import layers


def build(input_shape, classes, placement, batch_norm, width=16, blocks=1):
    """Build three stages of residual blocks; each stage halves the image and doubles the width.

    Args:
        input_shape: (height, width, channels) of the data.
        classes: of the data.
        placement: `none`, `before` or `after` the activation: `model.placement`.
        batch_norm: makes one layer with the arguments of `model.batch_norm`.
        width: channels of the first stage: `model.params.width`.
        blocks: of each stage: `model.params.blocks`.
    """

    def activated(x):
        x = batch_norm()(x) if placement == "before" else x
        x = layers.ReLU()(x)
        return batch_norm()(x) if placement == "after" else x

    def block(x, filters, strides):
        shortcut = x
        if strides > 1 or x.shape[-1] != filters:
            shortcut = layers.Conv2D(filters, 1, strides, use_bias=False)(x)
        y = activated(layers.Conv2D(filters, 3, strides, padding="same")(x))
        y = layers.Conv2D(filters, 3, padding="same")(y)
        return activated(layers.Add()([shortcut, y]))

    inputs = keras.Input(input_shape)
    x = activated(layers.Conv2D(width, 3, padding="same")(inputs))
    for stage in range(3):
        for number in range(blocks):
            x = block(x, width * 2**stage, strides=2 if stage and not number else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x))
