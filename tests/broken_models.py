"""Healthy trained models, and ways to break their batch normalization, one finding each."""

import keras
import numpy as np

import bnzoo
from bnzoo.layers.finding import batch_norm_layers

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def norms(model):
    return list(batch_norm_layers(model))


def compiled(model, rate=1e-2, **options):
    model.compile(keras.optimizers.Adam(rate), LOSS, metrics=["accuracy"], **options)
    return model


def zoo_model(x, y):
    """A small network of the zoo that has learned the data."""
    keras.utils.set_random_seed(0)
    statistics = {"momentum": 0.9}
    model = bnzoo.models.build("three_conv", input_shape=x.shape[1:], batch_norm=statistics)
    compiled(model).fit(x, y, batch_size=32, epochs=3, verbose=0)
    return model


def application(x, y):
    """MobileNetV2, trained for 200 steps with a momentum for as many."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=x.shape[1:], alpha=0.35, classes=10, classifier_activation=None
    )
    bnzoo.replace_batch_norm(model, momentum=0.9)
    steps_an_epoch = len(x) // 32
    compiled(model, 1e-3).fit(
        x[: 32 * steps_an_epoch],
        y[: 32 * steps_an_epoch],
        batch_size=32,
        epochs=-(-200 // steps_an_epoch),
        verbose=0,
    )
    return model


# --- ways to break a model; each takes it, its data, and the layer to break ----------------------


def far_off(model, data, layer):
    stddev = np.sqrt(layer.moving_variance.numpy() + layer.epsilon)
    layer.moving_mean.assign_add(3 * stddev)


def too_wide(model, data, layer):
    layer.moving_variance.assign(layer.moving_variance * 1e4)


def poisoned(model, data, layer):
    values = layer.moving_mean.numpy()
    values[0] = np.nan
    layer.moving_mean.assign(values)


def negative(model, data, layer):
    layer.moving_variance.assign(-layer.moving_variance)


def never_trained(model, data, layer):
    for one in norms(model):
        one.momentum = 0.999
        one.moving_mean.assign(np.zeros(one.moving_mean.shape))
        one.moving_variance.assign(np.ones(one.moving_mean.shape))
    compiled(model, 1e-4).fit(*data, batch_size=32, epochs=4, verbose=0)


def without_gamma(model, data, layer):
    values = layer.gamma.numpy()
    values[: int(0.7 * values.size)] = 0
    layer.gamma.assign(values)
    bnzoo.recalibrate(model, data)


def never_positive(model, data, layer):
    values = layer.beta.numpy()
    values[: int(0.7 * values.size)] = -50
    layer.beta.assign(values)
    bnzoo.recalibrate(model, data)


def exploded(model, data, layer):
    before = layer_before(model, layer)
    before.set_weights([weight * 1e6 for weight in before.get_weights()])
    bnzoo.recalibrate(model, data)


def shifted(model, data, layer):
    """Everything that reaches the layer lies far from zero: a bias is added before it."""
    usual = layer_before(model, layer).activation
    assert usual is keras.activations.linear
    before = layer_before(model, layer)
    before.bias.assign(np.full(before.bias.shape, 3e5))
    bnzoo.recalibrate(model, data)


def frozen(model, data, layer):
    layer.trainable = False


def layer_before(model, layer):
    at = model.layers.index(layer)
    return next(one for one in reversed(model.layers[:at]) if one.weights)
