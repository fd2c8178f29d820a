"""Small models of every kind with batch normalization, for tests of what is done to it."""

import keras
import numpy as np
from keras import layers


def with_statistics(model):
    """Give batch normalization weights and statistics as after training."""
    random = np.random.default_rng(0)
    ranges = {"gamma": (0.5, 1.5), "beta": (-0.5, 0.5), "moving_mean": (-0.5, 0.5)}
    for layer in norms(model):
        for weight in layer.weights:
            low, high = ranges.get(weight.name, (0.5, 1.5))
            weight.assign(random.uniform(low, high, weight.shape))
    return model


def norms(model):
    """Return the batch normalization layers, wherever they are."""
    found = [one for one in model._flatten_layers() if isinstance(one, layers.BatchNormalization)]
    return sorted(found, key=lambda layer: layer.name)


def sequential(norm):
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(6), norm(name="a"), layers.ReLU(), layers.Dense(4)]
    )


def inverted_residual(norm):
    """A block of MobileNetV2 on the four features as an image of 4 by 4."""
    inputs = keras.Input((4,))
    x = layers.Reshape((4, 4, 1))(layers.Dense(16)(inputs))
    x = norm(name="stem_norm")(layers.Conv2D(8, 3, padding="same", use_bias=False)(x))
    y = layers.Conv2D(16, 1, use_bias=False)(x)
    y = layers.ReLU(6.0)(norm(name="expand_norm", momentum=0.9)(y))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    y = layers.ReLU(6.0)(norm(name="depthwise_norm", epsilon=1e-2)(y))
    y = norm(name="project_norm", scale=False)(layers.Conv2D(8, 1, use_bias=False)(y))
    x = layers.Add()([x, y])
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def nested(norm):
    inner = keras.Sequential([keras.Input((6,)), norm(name="b"), layers.ReLU()], name="inner")
    inputs = keras.Input((4,))
    x = norm(name="a")(layers.Dense(6)(inputs))
    outer = keras.Model(inputs, layers.Dense(4)(inner(inner(x))), name="middle")
    return keras.Sequential([keras.Input((4,)), outer, norm(name="c")])


def shared(norm):
    inputs, layer, dense = keras.Input((4,)), norm(name="a"), layers.Dense(4)
    return keras.Model(inputs, layer(dense(layer(dense(inputs)))))


def in_time(norm):
    inputs = keras.Input((4,))
    x = layers.TimeDistributed(norm(name="a"))(layers.Reshape((2, 2))(inputs))
    cell = layers.TimeDistributed(
        keras.Sequential([keras.Input((2,)), layers.Dense(2), norm(name="b")])
    )
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(cell(x))))


def masked(norm):
    inputs = keras.Input((4,))
    x = layers.Masking()(layers.Reshape((2, 2))(inputs))
    x = layers.GlobalAveragePooling1D()(norm(name="a")(x))
    return keras.Model(inputs, layers.Dense(4)(x))


def several(norm):
    """Two inputs, of which the second is made from the first here, and two outputs."""
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    x = norm(name="a")(layers.Dense(5)(first))
    y = norm(name="b", center=False)(layers.Dense(5)(second))
    outputs = [layers.Dense(4)(layers.Add()([x, y])), layers.Dense(4)(y)]
    return keras.Model({"first": first, "second": second}, outputs)


class Network(keras.Model):
    """Layers as attributes, in a list, in a dict and in a layer of its own."""

    def __init__(self, norm):
        super().__init__()
        self.dense, self.norm = layers.Dense(6), norm(name="a")
        self.stack = [norm(name="b"), layers.Dense(6)]
        self.by_name = {"norm": norm(name="c"), "block": Block(norm)}
        self.last = layers.Dense(4)

    def call(self, inputs, training=None):
        x = self.norm(self.dense(inputs), training=training)
        x = self.stack[1](self.stack[0](x, training=training))
        x = self.by_name["norm"](x, training=training)
        return self.last(self.by_name["block"](x, training=training))


class Block(layers.Layer):
    """A layer with batch normalization inside."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm(name="d")

    def build(self, input_shape):
        self.norm.build(input_shape)

    def call(self, inputs, training=None):
        return self.norm(inputs, training=training)


def subclassed(norm):
    model = Network(norm)
    model(np.zeros((2, 4), "float32"))
    return model


FUNCTIONAL = {
    "sequential": sequential,
    "inverted_residual": inverted_residual,
    "nested": nested,
    "shared": shared,
    "in_time": in_time,
    "masked": masked,
    "several": several,
}
KINDS = {**FUNCTIONAL, "subclassed": subclassed}
X = np.random.default_rng(1).normal(0.5, 2.0, (32, 4)).astype("float32")
Y = np.random.default_rng(2).normal(size=(32, 4)).astype("float32")


def make(kind, norm):
    """Build a model of a kind; the same weights whatever the norm."""
    keras.utils.set_random_seed(0)
    return with_statistics(KINDS[kind](norm))


def data(kind):
    """Return inputs and targets that a kind of model takes."""
    return ({"first": X, "second": np.tanh(X)}, [Y, Y + 1]) if kind == "several" else (X, Y)


def answers(model, kind):
    """Return a model's answers, of all outputs, in one array."""
    return np.concatenate(keras.tree.flatten(model(data(kind)[0])))


def compiled(model):
    """Compile with an optimizer that keeps state."""
    loss = ["mse"] * len(model.outputs) if getattr(model, "outputs", None) else "mse"
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    return model


def train(model, kind, epochs=2):
    """Fit a compiled model and return its losses."""
    history = model.fit(*data(kind), batch_size=8, shuffle=False, epochs=epochs, verbose=0)
    return history.history["loss"]
