"""Models that are not one tensor in, one out, one loss: no error, nothing untrue, nothing moved."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import bnzoo

X = np.random.default_rng(0).normal(size=(128, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 128)


def net(units=3, **options):
    stack = [layers.Dense(8, use_bias=False), layers.BatchNormalization(**options), layers.ReLU()]
    return bnzoo.recalibrate(keras.Sequential([keras.Input((6,)), *stack, layers.Dense(units)]), X)


def of_kind(found, kind):
    return [one for one in found.findings if one.kind == kind]


def assert_healthy(found):
    assert found.record["verdict"] == "The batch normalization of this model is healthy."


# --- losses, metrics and outputs ------------------------------------------------------------------


def test_a_metric_of_several_numbers_is_left_out():
    model = net()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=[keras.metrics.F1Score()], run_eagerly=True)
    found = bnzoo.diagnose(model, (X, keras.utils.to_categorical(Y)))
    assert found.record["modes"]["inference"].keys() == {"loss"}


class OwnTest(keras.Sequential):
    def test_step(self, data):
        return {"size": keras.ops.mean(keras.ops.abs(self(data[0], training=False)))}


@pytest.mark.parametrize("kind", ["without a loss", "own test_step without a loss"])
def test_where_no_loss_is_told_outputs_are_compared(kind):
    model = net()
    if kind == "without a loss":
        model.compile("sgd", run_eagerly=True)
    else:
        model = OwnTest([keras.Input((6,)), *model.layers])
        model.compile("sgd", "mse", run_eagerly=True)
    assert_healthy(bnzoo.diagnose(model, (X, Y)))
    norm = next(one for one in model.layers if isinstance(one, layers.BatchNormalization))
    norm.moving_mean.assign_add(np.full(8, 30.0))
    assert of_kind(bnzoo.diagnose(model, (X, Y)), "modes")


def test_sequences_of_another_length_in_each_batch():
    stack = [layers.Conv1D(4, 1), layers.BatchNormalization(), layers.Conv1D(2, 1)]
    model = keras.Sequential([keras.Input((None, 3)), *stack])
    batches = [X[:80].reshape(8, -1, 3)[:, :length] for length in (5, 7, 20)]
    assert_healthy(bnzoo.diagnose(bnzoo.recalibrate(model, batches), batches))


class Scalar(keras.Model):
    """One number for the whole batch; and a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.norm, self.unused = layers.BatchNormalization(), layers.BatchNormalization()

    def build(self, shape):
        self.built = True

    def call(self, inputs, training=False):
        return keras.ops.mean(self.norm(inputs, training=training))


def test_one_number_for_a_batch_and_a_layer_that_is_never_called():
    model = Scalar()
    model(X)
    bnzoo.recalibrate(model, X)
    np.testing.assert_allclose(model.norm.moving_mean, X.mean(axis=0), atol=1e-6)
    assert len(bnzoo.diagnose(model, X).record["layers"]) == 1


def test_of_maps_only_some_numbers_are_kept():
    from bnzoo.diagnosis.measuring import MOST_OUTPUTS, _flat

    maps = np.arange(4 * 60 * 60, dtype="float32").reshape(4, 60, 60)
    assert _flat({"a": maps, "b": X[:4]}, 4).shape == (4, MOST_OUTPUTS + 6)


def test_outputs_that_are_not_finite_are_told_as_such():
    model = net()
    model.layers[1].moving_mean.assign(np.full(8, np.nan))
    (found,) = of_kind(bnzoo.diagnose(model, X), "modes")
    assert "finite in training mode, and not in inference" in found.what


# --- what was not measured ------------------------------------------------------------------------


def test_data_of_nan_is_not_called_healthy():
    found = bnzoo.diagnose(net(), np.full((64, 6), np.nan, "float32"))
    assert [one.kind for one in found.problems] == ["not_measured"]
    assert "healthy" not in str(found)


def test_a_channel_of_nan_is_no_dead_channel():
    x = X.copy()
    x[:, 2] = np.nan
    model = keras.Sequential([keras.Input((6,)), bnzoo.BatchNormalization(), layers.Dense(2)])
    found = bnzoo.diagnose(model, x)
    assert "No batch has finite statistics" in of_kind(found, "not_measured")[0].what
    assert not of_kind(found, "dead_channels")


def test_one_batch_of_nan_is_a_note_with_its_count():
    x = X.copy()
    x[3] = np.nan
    found = bnzoo.diagnose(net(), x)
    (note,) = of_kind(found, "not_measured")
    assert (note.level, note.numbers["bad_batches"]) == ("note", 1)
    assert not found.problems


class Compiled(keras.Model):
    def __init__(self):
        super().__init__()
        self.norm = layers.BatchNormalization()

    @tf.function
    def call(self, inputs, training=False):
        return self.norm(inputs, training=training)


def test_a_layer_that_could_not_be_watched_is_not_called_healthy():
    model = Compiled()
    model(X)
    found = bnzoo.diagnose(model, 100 * X)
    assert "The model did not use it" in of_kind(found, "not_measured")[0].what
    assert "healthy" not in str(found)


# --- wrong diagnoses ------------------------------------------------------------------------------


def test_a_layer_shared_by_two_inputs_has_no_noise_of_small_batches():
    one, other, norm = keras.Input((6,)), keras.Input((6,)), layers.BatchNormalization()
    both = layers.Concatenate()([norm(one), norm(other)])
    model = keras.Model([one, other], layers.Dense(2)(both))
    batches = [((X[at : at + 32], X[at : at + 32] + 5),) for at in range(0, 128, 32)]
    bnzoo.recalibrate(model, batches)
    assert not of_kind(bnzoo.diagnose(model, batches), "small_batch")


def test_the_scale_of_joined_inputs_is_no_explosion():
    inputs = {"a": keras.Input((1,), name="a"), "b": keras.Input((5,), name="b")}
    joined = layers.Concatenate()(list(inputs.values()))
    model = keras.Model(inputs, layers.Dense(2)(layers.BatchNormalization()(joined)))
    x = {"a": 1e5 * X[:, :1], "b": X[:, 1:]}
    bnzoo.recalibrate(model, x)
    assert not of_kind(bnzoo.diagnose(model, x), "exploding")
    subclassed = Scalar()
    subclassed(X)
    bnzoo.recalibrate(subclassed, 1e5 * X)
    (note,) = of_kind(bnzoo.diagnose(subclassed, 1e5 * X), "exploding")
    assert note.level == "note"


def test_a_bias_along_another_axis_is_not_redundant():
    for axis, is_redundant in ((-1, True), (1, False)):
        stack = [layers.Dense(4), layers.BatchNormalization(axis=axis), layers.Dense(2)]
        found = bnzoo.diagnose(keras.Sequential([keras.Input((5, 6)), *stack]))
        assert bool(of_kind(found, "redundant_bias")) is is_redundant


def test_steps_are_batches_where_gradients_are_gathered():
    model = net()
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=4)
    model.compile(optimizer, "mse", run_eagerly=True)
    optimizer.build(model.trainable_variables)
    optimizer._iterations.assign(40)
    model.layers[1].moving_variance.assign(np.ones(8))
    (found,) = of_kind(bnzoo.diagnose(model), "few_steps")
    assert found.numbers["steps"] == 40


def test_recalibration_is_not_advised_where_noise_is_left_that_it_cannot_repair():
    random = np.random.default_rng(0)
    pairs = 10 * random.normal(size=(64, 1, 6)) + 0.1 * random.normal(size=(64, 2, 6))
    x = pairs.reshape(-1, 6).astype("float32")
    stack = [keras.Input((6,)), layers.BatchNormalization(), layers.Dense(3)]
    model = bnzoo.recalibrate(keras.Sequential(stack), x, batch_size=2)
    model.layers[0].moving_mean.assign_add(np.full(6, 30.0))
    (found,) = of_kind(bnzoo.diagnose(model, x, batch_size=2), "modes")
    assert found.command is None
    assert "alone do not repair it: train on" in found.what_to_do


def test_recalibration_is_not_advised_where_it_makes_the_loss_larger():
    stack = [keras.Input((6,)), layers.BatchNormalization(), layers.Dense(3)]
    model, x = keras.Sequential(stack), 3 + 2 * X
    y = model.predict(x, verbose=0)
    model.compile("sgd", "mse", run_eagerly=True)
    model.optimizer.iterations.assign(10)
    diagnosis = bnzoo.diagnose(model, (x, y))
    (found,) = of_kind(diagnosis, "far_statistics")
    assert found.command is None
    assert "Do not recalibrate it on this data" in found.what_to_do
    assert "By themselves they lower the loss" in found.what
    (cause,) = of_kind(diagnosis, "few_steps")
    assert cause.command is None
    assert cause.what_to_do.startswith("Train on")


# --- the model as it was, and the picture ---------------------------------------------------------


class Counting(layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs


@pytest.mark.parametrize("do", [bnzoo.diagnose, bnzoo.recalibrate])
def test_counters_seeds_and_recurrent_states_stay(do):
    class Random(layers.Dropout):
        def call(self, inputs, training=None):
            return super().call(inputs, training=True)

    inputs = keras.Input(batch_shape=(32, 2, 3))
    recurrent, counting, random = layers.GRU(4, stateful=True), Counting(), Random(0.5)
    x = random(counting(recurrent(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(layers.BatchNormalization()(x)))
    state = [recurrent.states[0], counting.count, random.seed_generator.state]
    before = [one.numpy() for one in state]
    do(model, X.reshape(-1, 2, 3))
    for one, value in zip(state, before, strict=True):
        np.testing.assert_array_equal(one.numpy(), value)


def test_the_picture_of_a_channel_that_is_nearly_constant():
    model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization(), layers.Dense(2)])
    x = np.zeros((2000, 3), "float32")
    x[0] = 1e3
    picture = bnzoo.diagnose(model, x, batch_size=2000).record["picture"]
    assert (picture["edges"][0], picture["edges"][-1]) == (0, 1000)


def test_the_picture_leaves_out_what_is_masked():
    stack = [layers.Masking(), layers.BatchNormalization(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((6, 3)), *stack])
    x = 5 + np.random.default_rng(0).normal(size=(64, 6, 3)).astype("float32")
    x[:, 3:] = 0
    picture = bnzoo.diagnose(model, x).record["picture"]
    assert picture["edges"][0] > 1
