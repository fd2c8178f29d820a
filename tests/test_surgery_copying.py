"""Layers copied with all their state: weights, vocabularies, what is computed after loading."""

import keras
import numpy as np
import pytest
from keras import layers

import bnzoo
from bnzoo.errors import InputError
from bnzoo.surgery.copying import copy_state, new_layer

RANDOM = np.random.default_rng(0)
NUMBERS = RANDOM.normal(30, 20, (40, 4)).astype("float32")
TOKENS = RANDOM.integers(5, 30, (40, 3))
WORDS = np.array([["the cat sat"], ["a cat, a mat"], ["the \u00e9l\u00e9phant"]], object)
STEPS = RANDOM.normal(size=(4, 5, 3)).astype("float32")


def adapted(layer, data):
    layer.adapt(data)
    return layer


LAYERS = {
    "Normalization": lambda: (adapted(layers.Normalization(), NUMBERS), NUMBERS),
    "Normalization backwards": lambda: (
        adapted(layers.Normalization(invert=True), NUMBERS), NUMBERS),
    "IntegerLookup": lambda: (adapted(layers.IntegerLookup(), TOKENS), TOKENS),
    "IntegerLookup tf_idf": lambda: (
        adapted(layers.IntegerLookup(output_mode="tf_idf"), TOKENS), TOKENS),
    "StringLookup": lambda: (adapted(layers.StringLookup(output_mode="one_hot"), WORDS), WORDS),
    "TextVectorization": lambda: (
        adapted(layers.TextVectorization(output_sequence_length=4), WORDS), WORDS),
    "TextVectorization tf_idf": lambda: (
        adapted(layers.TextVectorization(output_mode="tf_idf"), WORDS), WORDS),
    "Discretization": lambda: (adapted(layers.Discretization(num_bins=5), NUMBERS), NUMBERS),
    "Hashing": lambda: (layers.Hashing(7, salt=5), TOKENS),
    "Dropout": lambda: (layers.Dropout(0.5, seed=3), NUMBERS),
    "TimeDistributed": lambda: (layers.TimeDistributed(layers.Dense(2)), STEPS),
    "TimeDistributed model": lambda: (
        layers.TimeDistributed(keras.Sequential([layers.Dense(3), layers.LayerNormalization()])),
        STEPS),
    "Bidirectional": lambda: (layers.Bidirectional(layers.LSTM(2)), STEPS),
    "RNN of cells": lambda: (layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]), STEPS),
    "SpectralNormalization": lambda: (layers.SpectralNormalization(layers.Dense(2)), NUMBERS),
}  # fmt: skip


def as_model(layer, x):
    dtype = "string" if x.dtype == object else x.dtype.name
    inputs = keras.Input(x.shape[1:], dtype=dtype)
    return keras.Model(inputs, layer(inputs))


def answers(model, x):
    return np.asarray(model(keras.ops.convert_to_tensor(x.tolist()) if x.dtype == object else x))


@pytest.mark.parametrize("name", LAYERS)
def test_a_folded_model_has_all_the_state_of_a_layer(name):
    layer, x = LAYERS[name]()
    model = as_model(layer, x)
    for variable in layer.trainable_variables:
        variable.assign(RANDOM.normal(size=variable.shape))
    np.testing.assert_array_equal(answers(bnzoo.fold_batch_norm(model), x), answers(model, x))


def test_the_state_of_random_numbers_is_copied():
    layer = layers.Dropout(0.5, seed=1)
    layer(NUMBERS, training=True)
    copy = new_layer(layer)
    copy(NUMBERS)
    copy_state(layer, copy)
    np.testing.assert_array_equal(copy(NUMBERS, training=True), layer(NUMBERS, training=True))


@keras.saving.register_keras_serializable("tests")
class Scales(layers.Layer):
    """Keeps what is no variable, in its own way, in a layer inside another."""

    table = None

    def call(self, inputs):
        return inputs * (0.0 if self.table is None else self.table)

    def compute_output_shape(self, input_shape):
        return input_shape

    def save_own_variables(self, store):
        store["table"] = self.table

    def load_own_variables(self, store):
        self.table = store["table"][()]


def test_what_a_layers_own_savers_keep_is_copied_from_inside_another_layer():
    wrapper = layers.TimeDistributed(Scales())
    model = as_model(wrapper, STEPS)
    wrapper.layer.table = np.float32([1, 2, 3])
    folded = bnzoo.fold_batch_norm(model)
    np.testing.assert_array_equal(folded(STEPS), STEPS * np.float32([1, 2, 3]))


def test_a_layer_without_a_config_that_can_be_read_is_named_with_what_to_do():
    class Stubborn(layers.Layer):
        def __init__(self, size):
            super().__init__(name="mine")
            self.size = size

        def call(self, inputs):
            return inputs * self.size

    model = as_model(Stubborn(np.float32(2)), NUMBERS)
    with pytest.raises(InputError) as error:
        bnzoo.fold_batch_norm(model)
    message = str(error.value)
    assert message.startswith("layer 'mine': a Stubborn cannot be copied (Object Stubborn was ")
    assert message.endswith("or export with fold=False (--no-fold).")
    assert "\n" not in message


def test_a_layer_whose_state_cannot_be_restored_is_named_with_what_to_do():
    class Forgets(layers.Layer):
        def call(self, inputs):
            return inputs

        def save_own_variables(self, store):
            store["a"] = 1

        def load_own_variables(self, store):
            raise KeyError("b")

    model = as_model(Forgets(name="mine"), NUMBERS)
    with pytest.raises(
        InputError, match=r"^layer 'mine': a Forgets cannot be copied \('b'\)\. Look at"
    ):
        bnzoo.fold_batch_norm(model)


def test_a_copy_that_cannot_be_called_is_one_line():
    class Limited(layers.Layer):
        made = 0

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            Limited.made += 1
            self.number = Limited.made

        def call(self, inputs):
            return inputs if self.number == 1 else inputs + None

    model = as_model(Limited(), NUMBERS)
    with pytest.raises(
        InputError, match=r"could not be called as they were: .* fold=False \(--no-fold\)\.$"
    ):
        bnzoo.fold_batch_norm(model)


def test_efficient_net_answers_the_same_with_what_it_was_adapted_to():
    images = RANDOM.uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    model = keras.applications.EfficientNetB0(weights=None, input_shape=(32, 32, 3), classes=5)
    (normalization,) = (one for one in model.layers if isinstance(one, layers.Normalization))
    normalization.adapt(images)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([RANDOM.uniform(0.5, 1.5, one.shape) for one in layer.weights])
    expected, answer = (np.asarray(one(images)) for one in (model, bnzoo.fold_batch_norm(model)))
    assert np.abs(expected - answer).max() < 1e-5 * np.abs(expected).max()
