"""Files as a user would write them, for the tests of models and data of one's own."""

MODELS = """
import keras
from keras import layers


def build(input_shape, classes, placement, batch_norm, width=4):
    inputs = keras.Input(input_shape)
    x = layers.Dense(width)(layers.Flatten()(inputs))
    if placement == "before":
        x = batch_norm()(x)
    return keras.Model(inputs, layers.Dense(classes)(layers.ReLU()(x)))


def plain(input_shape, units=1):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, layers.Dense(units)(layers.Dense(4, "relu")(inputs)))


class Twice(layers.Layer):
    def call(self, x):
        return 2 * x


def with_layer(input_shape, classes):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, layers.Dense(classes)(Twice()(layers.Flatten()(inputs))))


class Subclassed(keras.Model):
    def __init__(self, classes, **kwargs):
        super().__init__(**kwargs)
        self.classes = classes
        self.normalize = layers.BatchNormalization()
        self.dense = layers.Dense(classes)

    def call(self, x, training=None):
        return self.dense(self.normalize(keras.ops.reshape(x, (-1, 64)), training=training))

    def get_config(self):
        return {"classes": self.classes}


def two_inputs(input_shape):
    inputs = {name: keras.Input(shape, name=name) for name, shape in input_shape.items()}
    x = layers.Concatenate()(list(inputs.values()))
    return keras.Model(inputs, {name: layers.Dense(1, name=name)(x) for name in "ab"})


def reader(classes):
    words = layers.TextVectorization(output_sequence_length=2, vocabulary=["good", "bad"])
    inputs = keras.Input((), dtype="string")
    return keras.Model(inputs, layers.Dense(classes)(layers.Flatten()(
        layers.Embedding(4, 2)(words(inputs)))))


def two_inputs_to_classes(input_shape, classes):
    inputs = {name: keras.Input(shape, name=name) for name, shape in input_shape.items()}
    return keras.Model(inputs, layers.Dense(classes)(layers.Concatenate()(list(inputs.values()))))


def tagger(input_shape, classes):
    inputs = keras.Input((None,), dtype="int32")
    return keras.Model(inputs, layers.Dense(classes)(layers.Embedding(9, 4)(inputs)))


def off_by(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred))


def far_off(y_true, y_pred):
    raise RuntimeError("no loss today")


# --- what is wrong -------------------------------------------------------------------------------


def no_model(input_shape):
    return layers.Dense(1)


def raises(input_shape):
    return keras.Input(input_shape).no_such_attribute


def few_outputs(input_shape, classes):
    return build(input_shape, classes - 1, "none", None)


def other_shape(classes):
    return build((5, 5, 1), classes, "none", None)


def not_saved(input_shape, classes):
    inputs = keras.Input(input_shape)
    x = layers.Lambda(lambda x: x + 1)(layers.Flatten()(inputs))
    return keras.Model(inputs, layers.Dense(classes)(x))


def local_class(input_shape, classes):
    class Local(Twice):
        pass

    inputs = keras.Input(input_shape)
    return keras.Model(inputs, layers.Dense(classes)(Local()(layers.Flatten()(inputs))))


class Forgetful(Subclassed):
    def get_config(self):
        return {}


class Raises(layers.Layer):
    def call(self, x, training=None):
        if training:
            raise RuntimeError("not in training")
        return x


def raises_later(input_shape, classes):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, layers.Dense(classes)(Raises()(layers.Flatten()(inputs))))
"""

DATA = """
import keras
import numpy as np
import tensorflow as tf


def table(n=120, seed=0, columns=4):
    x = np.random.default_rng(0).normal(size=(n, columns))
    return x, x.sum(axis=1, keepdims=True)


def integers(n=90):
    x = np.random.default_rng(0).normal(size=(n, 3))
    return x, (x[:, 0] > 0).astype("int64")


def parts(n=60, named=False):
    x, y = integers(n)
    found = {"train": (x, y), "validation": (x[:20], y[:20]), "test": (x[:10], y[:10])}
    return {**found, "class_names": ["low", "high"]} if named else found


def nested(n=64):
    x, y = table(n)
    return {"left": x[:, :2], "right": x[:, 2:]}, {"a": y, "b": -y}


def datasets(batch_size, n=50):
    x, y = integers(n)
    whole = tf.data.Dataset.from_tensor_slices((x.astype("float32"), y))
    return {"train": whole.shuffle(n).batch(batch_size), "test": whole.take(20).batch(batch_size)}


class Sequence(keras.utils.PyDataset):
    def __init__(self, n, batch_size):
        super().__init__()
        self.x, self.y = table(n)
        self.batch_size = batch_size

    def __len__(self):
        return -(-len(self.x) // self.batch_size)

    def __getitem__(self, index):
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self.x[rows].astype("float32"), self.y[rows].astype("float32")


def sequences(batch_size):
    return {"train": Sequence(50, batch_size), "validation": Sequence(20, batch_size)}


class Failing(Sequence):
    def __getitem__(self, index):
        raise AttributeError("no such column")


def failing(batch_size):
    return {"train": Failing(50, batch_size)}


def tokens(n=40):
    x = np.random.default_rng(0).integers(0, 9, size=(n, 6))
    return x, x % 3


def words(n=40):
    x = np.array(["good day", "bad night"] * (n // 2))
    return x, np.array([1, 0] * (n // 2))


def two_tables(n=40):
    x, y = integers(n)
    return {"left": x, "right": x}, y


# --- what is wrong -------------------------------------------------------------------------------


def nothing():
    return None


def empty():
    return np.zeros((0, 4)), np.zeros((0,))


def uneven():
    return np.zeros((4, 4)), np.zeros((3,))


def unknown_part():
    return {"train": table(), "tests": table()}


def other_test():
    return {"train": table(), "test": table(columns=3)}


def objects():
    return np.array([[{}], [{}]], dtype=object), np.zeros(2)


def endless():
    return {"train": tf.data.Dataset.from_tensors((np.zeros((2, 3)), np.zeros(2))).repeat()}


def without_batches():
    return {"train": tf.data.Dataset.from_tensor_slices((np.zeros(4), np.zeros(4)))}


def empty_dataset():
    return {"train": tf.data.Dataset.from_tensor_slices((np.zeros((0, 3)), np.zeros(0))).batch(2)}


def fails():
    raise OSError("the disk is gone")
"""


def write(folder):
    """Write both files into a folder."""
    (folder / "my_models.py").write_text(MODELS)
    (folder / "my_data.py").write_text(DATA)
    return folder


def line_of(text, words):
    """Return the number of the first line that holds some words."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if words in line)
