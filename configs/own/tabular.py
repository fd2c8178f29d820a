"""A regression on a table: the data, the network and a metric."""

import keras
from keras import layers
from sklearn.datasets import load_diabetes


def load():
    """Return 442 patients, ten measurements of each, and the progression a year later.

    Returns:
        (x, y): arrays of shape (442, 10) and (442, 1), the shape of the network's answers. bnzoo
        holds back a test set and a validation set, as `data.test` and `data.validation` say. y is
        in units of its standard deviation.
    """
    x, y = load_diabetes(return_X_y=True)
    return x / x.std(axis=0), ((y - y.mean()) / y.std())[:, None]


def build(input_shape, placement, batch_norm, width=32, depth=2):
    """Build dense layers with one output, which is compared with y as it is."""
    x = inputs = keras.Input(input_shape)
    for _ in range(depth):
        x = layers.Dense(width)(x)
        x = batch_norm()(x) if placement == "before" else x
        x = layers.ReLU()(x)
    return keras.Model(inputs, layers.Dense(1)(x))


def within_one_deviation(y_true, y_pred):
    """Return the share of answers that are off by less than one standard deviation of y."""
    return keras.ops.mean(keras.ops.cast(keras.ops.abs(y_true - y_pred) < 1, "float32"))
