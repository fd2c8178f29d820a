"""The layer is one of Keras' batch normalization layers, to people's code and to surgery."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import KERAS_HAS_RENORM, needs_keras, needs_renorm

import bnzoo
from bnzoo import BatchNormalization, surgery

Keras = keras.layers.BatchNormalization
BOTH = pytest.mark.parametrize("cls", [Keras, BatchNormalization], ids=["keras", "bnzoo"])
EXTRAS = {
    "implementation": "xla",
    "virtual_batch_size": 4,
    "unbiased_moving_variance": True,
    "frozen_statistics": True,
}
KERAS_ARGUMENTS = (
    {},
    {"axis": 1, "momentum": 0.5, "epsilon": 1e-5, "dtype": "mixed_bfloat16", "trainable": False},
    {"center": False, "scale": False, "name": "bare"},
    {"beta_initializer": "ones", "gamma_regularizer": "l2", "beta_constraint": "non_neg"},
    pytest.param(
        {"renorm": True, "renorm_clipping": {"rmax": 2.0}, "renorm_momentum": 0.9},
        marks=needs_renorm,
    ),
    {"synchronized": True},
)


def batch(shape=(6, 4)):
    return np.random.default_rng(1).normal(2.0, 3.0, shape).astype("float32")


def stir(*layers):
    """Give layers the same weights, each with values of its own."""
    random = np.random.default_rng(2)
    values = [random.uniform(0.5, 1.5, weight.shape) for weight in layers[0].weights]
    for layer in layers:
        layer.set_weights(values)


def built(*layers, shape=(6, 4)):
    for layer in layers:
        layer.build(shape)
    stir(*layers)
    return layers


# --- the class ------------------------------------------------------------------------------------


def test_it_is_an_instance_of_keras_layer():
    assert isinstance(BatchNormalization(), Keras)
    assert issubclass(BatchNormalization, Keras)


@BOTH
def test_the_usual_way_to_freeze_batch_normalization_freezes_it(cls):
    layers = [keras.Input((4,)), keras.layers.Dense(4), cls(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    frozen, dense = model.layers[1], model.layers[0]
    stir(frozen)
    before, kernel = frozen.get_weights(), dense.get_weights()[0]
    model.compile("sgd", "mse")
    model.fit(batch(), np.ones((6, 1)), verbose=0)
    for one, other in zip(before, frozen.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (dense.get_weights()[0] != kernel).any()
    x = batch()
    np.testing.assert_array_equal(frozen(x, training=True), frozen(x, training=False))


def test_names_stay():
    keras.backend.clear_session()
    layer, another = BatchNormalization(), BatchNormalization()
    assert [layer.name, another.name] == ["batch_normalization", "batch_normalization_1"]
    assert keras.saving.get_registered_name(BatchNormalization) == "bnzoo>BatchNormalization"
    assert keras.saving.get_registered_object("bnzoo>BatchNormalization") is BatchNormalization
    assert keras.saving.serialize_keras_object(layer)["module"].startswith("bnzoo")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, "gamma beta moving_mean moving_variance"),
        ({"scale": False}, "beta moving_mean moving_variance"),
        ({"center": False, "scale": False}, "moving_mean moving_variance"),
        (
            {"renorm": True},
            "gamma beta moving_mean moving_variance moving_stddev renorm_mean renorm_stddev",
        ),
        ({"momentum": None}, "gamma beta moving_mean moving_variance num_batches"),
    ],
    ids=str,
)
def test_weights_keep_their_order(arguments, names):
    layer = BatchNormalization(**arguments)
    layer.build((None, 4))
    assert [weight.name for weight in layer.weights] == names.split()
    if arguments.get("momentum", 0) is not None and (KERAS_HAS_RENORM or "renorm" not in arguments):
        theirs = Keras(**arguments)
        theirs.build((None, 4))
        described = [[(w.name, w.shape, w.trainable) for w in x.weights] for x in (layer, theirs)]
        assert described[0] == described[1]


@BOTH
def test_there_are_no_statistics_before_it_is_built(cls):
    layer = cls()
    assert layer.moving_mean is None
    assert layer.moving_variance is None
    assert layer.gamma is None
    assert layer.beta is None


# --- arguments ------------------------------------------------------------------------------------


def test_no_momentum_is_still_the_average_over_all_steps():
    layer = BatchNormalization(momentum=None)
    for factor in (1, 3):
        layer(factor * batch(), training=True)
    assert layer.momentum is None
    # float32 sums of six numbers.
    np.testing.assert_allclose(layer.moving_mean, 2 * batch().mean(0), rtol=1e-5)


@pytest.mark.parametrize("axis", [3, 3.0, np.int64(3), np.float32(3)], ids=repr)
def test_a_whole_number_is_an_axis(axis):
    layer = BatchNormalization(axis=axis)
    assert layer.axis == 3
    assert type(layer.axis) is int
    assert layer.get_config()["axis"] == Keras(axis=axis).get_config()["axis"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("axis", 3.7, "an integer"),
        ("axis", "3", "an integer"),
        ("axis", True, "an integer"),
        ("axis", float("nan"), "an integer"),
        ("axis", float("inf"), "an integer"),
        ("axis", None, "an integer"),
        ("momentum", "high", "a number from 0 to 1"),
        ("momentum", 7, "a number from 0 to 1"),
        ("epsilon", None, "a number that is 0 or greater"),
        ("implementation", "cudnn", "one of"),
        ("virtual_batch_size", 1, "an integer of at least 2"),
    ],
)
def test_errors_are_ours(name, value, expected):
    with pytest.raises(ValueError, match=f"Received {name}=.*, expected {expected}"):
        BatchNormalization(**{name: value})


def test_errors_come_before_anything_else():
    keras.backend.clear_session()
    with pytest.raises(ValueError, match="Received momentum=7"):
        BatchNormalization(momentum=7)
    # Not even a name was given to what could not be made.
    assert BatchNormalization().name == "batch_normalization"


# --- configs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", KERAS_ARGUMENTS, ids=str)
def test_a_config_without_extras_is_one_of_keras_layer(arguments):
    ours, theirs = BatchNormalization(**arguments), Keras(**arguments)
    assert not set(EXTRAS) & set(ours.get_config())
    there = Keras.from_config(ours.get_config())
    back = BatchNormalization.from_config(there.get_config())
    assert type(there) is Keras
    assert back.get_config() == ours.get_config()
    differing = {"name": ""} if "name" not in arguments else {}
    assert {**there.get_config(), **differing} == {**theirs.get_config(), **differing}
    x = batch((4, 3, 4))
    for layer in (ours, there):
        layer.build(x.shape)
    stir(ours, there)
    # bfloat16, where it is used, has 8 bits.
    tolerance = 1e-5 if ours.compute_dtype == "float32" else 4e-2
    one, other = (tf.cast(layer(x, training=True), "float32") for layer in (ours, there))
    np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [*EXTRAS, "momentum"])
def test_keras_layer_refuses_a_config_that_it_would_misread(name):
    value = EXTRAS.get(name)
    config = BatchNormalization(**{name: value}).get_config()
    assert config[name] == value
    with pytest.raises((TypeError, ValueError)):
        Keras.from_config(config)


@pytest.mark.parametrize(
    "arguments",
    [*KERAS_ARGUMENTS, {"momentum": None}, *({name: value} for name, value in EXTRAS.items())],
    ids=str,
)
def test_a_config_makes_the_same_layer_again(arguments):
    layer = BatchNormalization(**arguments)
    for again in (
        BatchNormalization.from_config(layer.get_config()),
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer)),
    ):
        assert type(again) is BatchNormalization
        assert again.get_config() == layer.get_config()
        for name in EXTRAS:
            assert getattr(again, name) == getattr(layer, name)


def test_a_config_that_spells_out_the_defaults_is_read_as_before():
    config = BatchNormalization().get_config()
    spelt_out = {
        "implementation": "auto",
        "virtual_batch_size": None,
        "unbiased_moving_variance": False,
        "frozen_statistics": False,
    }
    assert BatchNormalization.from_config({**config, **spelt_out}).get_config() == config


# --- ragged inputs, and another Keras' ------------------------------------------------------------

RAGGED = {
    "sequences": lambda: tf.RaggedTensor.from_row_lengths(batch((5, 4)), [2, 0, 3]),
    "many": lambda: tf.RaggedTensor.from_row_lengths(batch((4000, 32)), [1500, 2500]),
    "sequences of rows": lambda: tf.RaggedTensor.from_row_lengths(batch((5, 3, 4)), [2, 3]),
    "ragged twice": lambda: tf.RaggedTensor.from_nested_row_lengths(
        batch((6, 4)), [[2, 1], [3, 1, 2]]
    ),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("compiled", [True, False], ids=["graph", "eager"])
@pytest.mark.parametrize("name", RAGGED)
def test_ragged_inputs(name, training, compiled):
    ragged = RAGGED[name]()
    theirs, ours = built(Keras(momentum=0.5), BatchNormalization(momentum=0.5), shape=ragged.shape)
    results = []
    for layer in (theirs, ours):

        def step(ragged, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(ragged.flat_values)
                outputs = layer(ragged, training=training)
                loss = tf.reduce_sum(tf.sin(outputs.flat_values))
            return outputs, tape.gradient(loss, ragged.flat_values)

        outputs, gradient = (tf.function(step) if compiled else step)(ragged)
        assert isinstance(outputs, tf.RaggedTensor)
        assert outputs.shape == ragged.shape
        rows = [splits.numpy().tolist() for splits in outputs.nested_row_splits]
        results.append((rows, outputs.flat_values, gradient, *layer.get_weights()))
    assert results[0][0] == results[1][0]
    for expected, actual in zip(*(result[1:] for result in results), strict=True):
        # float32 sums of 4,000 numbers in another order.
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


@needs_keras("3.10", "its Input has no `ragged` before")
@BOTH
def test_a_model_takes_ragged_inputs(cls):
    inputs = keras.Input((None, 4), ragged=True)
    model = keras.Model(inputs, cls(momentum=0.0)(inputs))
    ragged = RAGGED["sequences"]()
    model(ragged, training=True)
    outputs = model.predict(ragged, verbose=0).flat_values.numpy()
    np.testing.assert_allclose(outputs.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(outputs.std(0), 1, atol=1e-3)  # epsilon is 0.001


def test_an_input_of_another_keras_is_an_error_that_says_so():
    tf_keras = pytest.importorskip("tf_keras", reason="needs Keras 2, the package tf_keras")
    # tf_keras.Sequential refuses the layer. Called by hand, Keras' layer answers, and the model
    # around it has none of its weights.
    with pytest.raises(TypeError, match="must be an instance of class Layer"):
        tf_keras.Sequential([BatchNormalization()])
    with pytest.raises((TypeError, ValueError), match=r"Received.*tf_keras"):
        BatchNormalization()(tf_keras.Input((4,)))


# --- attributes that change, and surgery ----------------------------------------------------------

SWITCHED = [{"scale": False}, {"center": False}, {"center": False, "scale": False}]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("changes", SWITCHED, ids=str)
def test_what_is_switched_off_after_building_counts_no_more(changes, training):
    theirs, ours = built(Keras(), BatchNormalization())
    before = ours(batch(), training=False).numpy()
    for layer in (theirs, ours):
        for name, value in changes.items():
            setattr(layer, name, value)
    one, other = (layer(batch(), training=training) for layer in (ours, theirs))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert np.abs(before - one).max() > 0.1
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def assert_folds_to_the_same(model):
    folded = bnzoo.fold_batch_norm(model)
    expected = model(batch(), training=False)
    np.testing.assert_allclose(folded(batch()), expected, rtol=1e-5, atol=1e-5)
    return folded


@BOTH
@pytest.mark.parametrize("stack", ["behind", "between", "alone"])
@pytest.mark.parametrize("changes", SWITCHED, ids=str)
def test_folding_sees_what_was_switched_off(changes, stack, cls):
    layer = cls()
    before = [] if stack == "alone" else [keras.layers.Dense(4)]
    after = [keras.layers.ReLU(), keras.layers.Dense(3)] if stack == "between" else []
    model = keras.Sequential([keras.Input((4,)), *before, layer, *after])
    stir(layer)
    for name, value in changes.items():
        setattr(layer, name, value)
    folded = assert_folds_to_the_same(model)
    assert not surgery.has_batch_norm(folded)


class Doubled:
    """A call that a fold of the weights alone would get wrong."""

    def call(self, inputs, training=None, mask=None):
        return 2.0 * super().call(inputs, training=training, mask=mask) + 1.0


class DoubledKeras(Doubled, Keras):
    pass


class DoubledOurs(Doubled, BatchNormalization):
    pass


class RenamedOurs(BatchNormalization):
    pass


@BOTH
def test_surgery_knows_the_two_classes(cls):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), cls()])
    stir(model.layers[-1])
    assert surgery.has_batch_norm(model)
    folded = assert_folds_to_the_same(model)
    assert not surgery.has_batch_norm(folded)
    assert [type(layer).__name__ for layer in folded.layers] == ["InputLayer", "Dense"]


@pytest.mark.parametrize("cls", [DoubledKeras, DoubledOurs, RenamedOurs])
def test_surgery_leaves_subclasses_as_they_are(cls):
    layers = [keras.Input((4,)), keras.layers.Dense(4), cls(), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    stir(model.layers[1])
    folded = assert_folds_to_the_same(model)
    assert [type(layer) for layer in folded.layers].count(cls) == 1
    assert not surgery.has_batch_norm(model)


def test_surgery_folds_a_model_that_holds_a_subclass_and_the_layer_itself():
    layers = [keras.Input((4,)), keras.layers.Dense(4), BatchNormalization(), DoubledOurs()]
    model = keras.Sequential([*layers, keras.layers.Dense(3)])
    stir(*model.layers[1:3])
    folded = assert_folds_to_the_same(model)
    assert [type(layer) for layer in folded.layers].count(BatchNormalization) == 0
    assert [type(layer) for layer in folded.layers].count(DoubledOurs) == 1
