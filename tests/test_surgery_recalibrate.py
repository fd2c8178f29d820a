"""Population statistics: float64's over the whole data, and nothing else of the model changes."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import population_reference as reference
import pytest
import tensorflow as tf
from calls import TESTS, run_on_jax
from keras import layers
from marks import KERAS_HAS_RENORM
from normalized_models import KINDS, X, Y, compiled, data, make, norms, train
from population_reference import cut, statistics

import bnzoo
from bnzoo.errors import InputError
from bnzoo.saving import dtype_policy
from bnzoo.surgery.population import is_frozen

Keras, Ours = keras.layers.BatchNormalization, bnzoo.BatchNormalization
BOTH = pytest.mark.parametrize("norm", [Keras, Ours])
EPSILON = 1e-3


def batches(kind):
    return cut(data(kind)[0], (7, 12, 5, 8))


def poison(model):
    """Make NaN of all moving statistics: whatever is left of them is seen."""
    for layer in norms(model):
        for weight in layer.non_trainable_variables:
            weight.assign(np.full(weight.shape, np.nan))
    return model


def assert_close(found, expected, bound=1e-5):
    """Compare statistics, in standard deviations and relative to the variance."""
    assert found.keys() == expected.keys()
    for name, (mean, variance) in expected.items():
        near = np.abs(found[name][0] - mean) / np.sqrt(variance + EPSILON)
        assert near.max() < bound, (name, near)
        assert (np.abs(found[name][1] - variance) / (variance + EPSILON)).max() < bound, name


def state(model):
    """Return all variables with their names and bits, and what is in each layer."""
    variables = [(each.path, each.numpy().tobytes()) for each in model.variables]
    return variables, [sorted(vars(layer)) for layer in model._flatten_layers()]


# --- the statistics -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "norm"),
    [*((kind, Keras) for kind in KINDS), *((kind, Ours) for kind in ("nested", "masked"))],
)
def test_statistics_are_those_of_float64_and_nothing_is_left_of_the_old_ones(kind, norm):
    model = make(kind, norm)
    again = reference.in_float64(lambda: make(kind, norm), model)
    learned = [weight.numpy() for weight in model.trainable_variables]
    assert bnzoo.recalibrate(poison(model), batches(kind)) is model
    assert_close(statistics(model), reference.populations(again, batches(kind)))
    for weight, value in zip(model.trainable_variables, learned, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


ARGUMENTS = {
    "ghosts": {"virtual_batch_size": 3},
    "unbiased": {"unbiased_moving_variance": True},
    "cumulative": {"momentum": None},
    "renorm": {"renorm": True},
    "fused": {"implementation": "fused"},
    "synchronized": {"synchronized": True},
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_has_its_statistics(name):
    def build():
        return make("nested", lambda **options: Ours(**options, **ARGUMENTS[name]))

    model = build()
    again = reference.in_float64(build, model)
    expected = reference.populations(again, batches("nested"))
    bnzoo.recalibrate(poison(model), batches("nested"))
    if name == "unbiased":
        counts = {layer.name: 64 if layer.name == "b" else 32 for layer in norms(model)}
        expected = {
            each: (mean, variance * counts[each] / (counts[each] - 1))
            for each, (mean, variance) in expected.items()
        }
    assert_close(statistics(model), expected)
    for layer in norms(model):
        mean, variance = expected[layer.name]
        if name == "cumulative":  # the layer inside is called twice
            assert float(layer.num_batches) == (8 if layer.name == "b" else 4)
        if name == "renorm":
            np.testing.assert_allclose(layer.renorm_mean, mean, atol=1e-5)
            for weight in (layer.moving_stddev, layer.renorm_stddev):
                np.testing.assert_allclose(weight, np.sqrt(variance + EPSILON), rtol=1e-5)


@pytest.mark.skipif(not KERAS_HAS_RENORM, reason="Keras' own layer has no renorm before 3.14")
def test_renorm_of_keras_layer_too():
    model = make("sequential", lambda **options: Keras(**options, renorm=True))
    bnzoo.recalibrate(poison(model), X)
    (layer,) = norms(model)
    expected = np.sqrt(layer.moving_variance.numpy() + EPSILON)
    np.testing.assert_allclose(layer.moving_stddev, expected, rtol=1e-6)
    np.testing.assert_array_equal(layer.renorm_mean, layer.moving_mean)


def test_the_variance_between_batches_is_in_it():
    model = keras.Sequential([keras.Input((1,)), Keras()])
    bnzoo.recalibrate(model, [np.full((1, 1), 8.0), np.zeros((3, 1))])
    assert (model.layers[0].moving_mean.numpy(), model.layers[0].moving_variance.numpy()) == (2, 12)


@pytest.mark.parametrize(
    ("policy", "norm"), [("mixed_float16", Keras), ("mixed_bfloat16", Ours), ("float16", Ours)]
)
def test_half_precision_has_statistics_of_its_own_values(policy, norm):
    """Against float64 statistics of the same model, with the same rounding between its layers."""
    with dtype_policy(policy):
        model, again = (make("inverted_residual", norm) for _ in range(2))
    expected = reference.populations(again, batches(""))
    bnzoo.recalibrate(model, batches(""))
    # A mean off by float32's rounding moves some outputs to the next number of the dtype; the
    # statistics themselves are rounded to float16's 1e-3 where the variables are.
    assert_close(statistics(model), expected, 2e-3)


@BOTH
def test_channels_far_from_zero_keep_their_digits(norm):
    x = (np.random.default_rng(0).normal(size=(4096, 3)) * [1, 3, 0.1] + 1e4).astype("float32")
    model = keras.Sequential([keras.Input((3,)), norm()])
    bnzoo.recalibrate(model, cut(x, (1000, 96, 3000)))
    exact = x.astype("float64")
    np.testing.assert_array_equal(model.layers[0].moving_mean, exact.mean(0).astype("float32"))
    # Each batch's mean is rounded to 5e-4, against a standard deviation of 0.1.
    np.testing.assert_allclose(model.layers[0].moving_variance, exact.var(0), rtol=5e-4)


def test_a_channel_without_a_sample_keeps_its_statistics():
    inputs = keras.Input((3, 2))
    model = keras.Model(inputs, Ours(axis=1)(layers.Masking()(inputs)))
    x = np.random.default_rng(0).normal(3.0, 2.0, (8, 3, 2)).astype("float32")
    x[:, 1] = 0
    x[:5, 2] = 0  # some samples of the last
    (layer,) = norms(model)
    layer.moving_mean.assign([7.0, 7.0, 7.0])
    bnzoo.recalibrate(model, cut(x, (4, 4)))
    expected = [x[:, 0].mean(), 7.0, x[5:, 2].mean()]
    np.testing.assert_allclose(layer.moving_mean, expected, rtol=1e-6)
    expected = [x[:, 0].var(), 1.0, x[5:, 2].var()]
    np.testing.assert_allclose(layer.moving_variance, expected, rtol=1e-5)


@pytest.mark.parametrize(("inside", "norm"), [(False, Keras), (True, Ours)])
def test_an_unknown_number_of_time_steps(inside, norm):
    def build(time=None):
        one = norm(name="a")
        if inside:
            one = keras.Sequential([keras.Input((4,)), one, layers.Dense(2), norm(name="b")])
        keras.utils.set_random_seed(0)
        return keras.Sequential([keras.Input((time, 4)), layers.TimeDistributed(one)])

    x, model = X.reshape(8, 4, 4), build()
    again = reference.in_float64(lambda: build(4), model)
    bnzoo.recalibrate(model, cut(x, (3, 5)))
    assert_close(statistics(model), reference.populations(again, cut(x, (3, 5))))


class Cell(layers.Layer):
    """A cell of a recurrent layer, with batch normalization in the way of its state."""

    state_size = output_size = 3

    def __init__(self, norm):
        super().__init__()
        self.dense, self.norm = layers.Dense(3), norm(name="a")

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1] + 3))
        self.norm.build((None, 3))

    def call(self, inputs, states, training=None):
        both = keras.ops.concatenate([inputs, states[0]], -1)
        state = keras.ops.tanh(self.norm(self.dense(both), training=training))
        return state, [state]


def test_inside_a_recurrent_cell():
    def build():
        return keras.Sequential([keras.Input((4, 4)), layers.RNN(Cell(Ours))])

    model, x = build(), X.reshape(8, 4, 4)
    again = reference.in_float64(build, model)
    bnzoo.recalibrate(model, cut(x, (3, 5)))
    assert_close(statistics(model), reference.populations(again, cut(x, (3, 5))))


@pytest.mark.parametrize(
    "options", [{"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 4}]
)
def test_however_the_model_is_compiled(options):
    model, again = make("sequential", Ours), make("sequential", Ours)
    model.compile("sgd", "mse", **options)
    for one in (model, again):
        bnzoo.recalibrate(one, cut(X, (16, 16)))
    assert_close(statistics(model), statistics(again), 1e-6)


# --- everything else ------------------------------------------------------------------------------


def test_dropout_noise_and_augmentation_are_in_inference():
    def build(random):
        keras.utils.set_random_seed(0)
        stack = [layers.Reshape((2, 2, 1)), *random, layers.Flatten(), layers.Dense(3), Ours()]
        return keras.Sequential([keras.Input((4,)), *stack])

    noise = (layers.RandomFlip(), layers.RandomTranslation(0.3, 0.3), layers.Dropout(0.5),
             layers.GaussianNoise(1.0))  # fmt: skip
    model, plain = build(noise), build(())
    rest = [each for each in model.non_trainable_variables if "seed" in each.path]
    assert rest
    before = [each.numpy() for each in rest]
    for _ in range(2):
        for one in (model, plain):
            bnzoo.recalibrate(one, X)
        np.testing.assert_array_equal(norms(model)[0].moving_mean, norms(plain)[0].moving_mean)
    for one, value in zip(rest, before, strict=True):
        np.testing.assert_array_equal(one.numpy(), value)


@pytest.mark.parametrize("by", ["trainable", "frozen_statistics"])
def test_frozen_layers_stay_as_they_are_and_use_their_statistics(by):
    def build():
        model = make("nested", Ours)
        setattr(norms(model)[0], by, by == "frozen_statistics")
        return model

    model = build()
    again = reference.in_float64(build, model)
    frozen = norms(model)[0]
    assert is_frozen(frozen)
    before = frozen.get_weights()
    bnzoo.recalibrate(model, batches("nested"))
    for one, other in zip(frozen.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    expected = reference.populations(again, batches("nested"))
    expected["a"] = statistics(again)["a"]
    assert_close(statistics(model), expected)


class Doubled(Keras):
    """Batch normalization with a call of its own, which cannot be measured."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training) * 2


def test_a_subclass_with_a_call_of_its_own_is_in_inference():
    model = make("nested", lambda name: Doubled(name=name) if name == "a" else Ours(name=name))
    before = norms(model)[0].get_weights()
    bnzoo.recalibrate(model, batches("nested"))
    for one, other in zip(norms(model)[0].get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    settled = keras.Sequential([keras.Input((4,)), Doubled()], name="mine")
    with pytest.raises(InputError, match=r"'mine': expected .* found only Doubled, a subclass"):
        bnzoo.recalibrate(settled, X)


def test_bad_batches_are_left_out():
    def spoiled(value):
        x = X[:6].copy()
        x[2, 1] = value
        return x

    model, again = make("nested", Ours), make("nested", Ours)
    bad = [X[:0], spoiled(np.nan), spoiled(np.inf), X[:6] * 1e30]
    bnzoo.recalibrate(model, [bad[0], X[:9], *bad[1:], X[9:]])
    bnzoo.recalibrate(again, [X[:9], X[9:]])
    assert_close(statistics(model), statistics(again), 1e-6)


def test_what_kind_of_data_it_is_makes_no_difference(tmp_path):
    class Numbered(keras.utils.PyDataset):
        num_batches = 4

        def __getitem__(self, index):
            return X[8 * index : 8 * index + 8], Y[8 * index : 8 * index + 8]

    pairs = list(zip(cut(X, (8,) * 4), cut(Y, (8,) * 4), strict=True))
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    kinds = [X, (X, Y), tf.constant(X), dataset, dataset.map(lambda x, y: x), Numbered(), pairs]
    kinds += [iter(pairs), [x for x, _ in pairs]]
    model = keras.Sequential([keras.Input((4,)), Ours(name="a")])
    for each in kinds:
        bnzoo.recalibrate(poison(model), each, batch_size=8)
        np.testing.assert_allclose(norms(model)[0].moving_mean, X.mean(0), rtol=1e-5)
    endless = dataset.repeat(), *[iter(pairs * 9), dataset, X]
    for each in endless:
        seen = []
        bnzoo.recalibrate(
            model,
            each,
            np.int64(11),
            batch_size=8,
            progress=lambda *now, seen=seen: seen.append(now),
        )
        assert seen == [(0, 8), (0, 16)]
        np.testing.assert_allclose(norms(model)[0].moving_mean, X[:16].mean(0), rtol=1e-5)


# --- layer by layer -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "depths"),
    [("inverted_residual", 4), ("several", 1), ("subclassed", 4)],
)
def test_layer_by_layer_takes_what_inference_gives_in_as_many_passes_as_depths(kind, depths):
    model, passes = make(kind, Ours), set()
    again = reference.in_float64(lambda: make(kind, Ours), model)
    bnzoo.recalibrate(
        poison(model), batches(kind), layer_by_layer=True, progress=lambda run, _: passes.add(run)
    )
    reference.settle(again, batches(kind))
    assert_close(statistics(model), statistics(again))
    assert passes == set(range(depths + 1))


def test_layer_by_layer_ghosts_do_not_matter_and_large_means_settle():
    def build(**arguments):
        keras.utils.set_random_seed(0)
        stack = [Ours(**arguments), layers.Dense(3), Ours(**arguments)]
        return keras.Sequential([keras.Input((4,)), *stack])

    model, passes = build(virtual_batch_size=4, unbiased_moving_variance=False), []
    x = X + np.float32(1e4)  # its mean is rounded to 1e-3
    bnzoo.recalibrate(
        model, x, batch_size=8, layer_by_layer=True, progress=lambda run, _: passes.append(run)
    )
    assert max(passes) == 2
    outputs = model.predict(x, verbose=0)
    np.testing.assert_allclose(outputs.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(outputs.var(0), 1, atol=2e-3)


def test_a_layer_behind_itself_comes_to_an_end():
    passes = []
    model = make("shared", Ours)
    bnzoo.recalibrate(model, X, layer_by_layer=True, progress=lambda run, _: passes.append(run))
    assert max(passes) == 2
    assert np.isfinite(norms(model)[0].moving_variance.numpy()).all()


# --- a failure half-way, and training afterwards --------------------------------------------------


class Stop(Exception):
    pass


class Failing:
    """Batches that can be read again, and end in an error."""

    def __init__(self, kind, error):
        self.kind, self.error = kind, error

    def __iter__(self):
        yield from batches(self.kind)[:2]
        raise self.error


@pytest.mark.parametrize(
    ("kind", "error"), [("nested", Stop()), ("subclassed", KeyboardInterrupt())]
)
def test_the_model_is_as_it_was_when_the_data_fails_half_way(kind, error):
    model = compiled(make(kind, Ours))
    train(model, kind, 1)
    before = state(model)
    with pytest.raises(type(error)):
        bnzoo.recalibrate(model, Failing(kind, error))
    assert state(model) == before


class Drawing(layers.Layer):
    """Draws numbers in inference too."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, inputs):
        return inputs + keras.random.normal((4,), seed=self.seeds)


@pytest.mark.parametrize("layer_by_layer", [False, True])
def test_the_model_is_as_it_was_when_it_is_interrupted(layer_by_layer):
    model = compiled(make("nested", lambda **names: Ours(**names, momentum=None)))
    model.add(Drawing())
    before = state(model)
    kept = model.test_function, model.predict_function

    def progress(run, examples):
        if run == layer_by_layer and examples > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bnzoo.recalibrate(
            model, batches("nested"), layer_by_layer=layer_by_layer, progress=progress
        )
    assert state(model) == before
    assert (model.test_function, model.predict_function) == kept
    bnzoo.recalibrate(model, batches("nested"))
    assert [names for names, _ in state(model)[0]] == [names for names, _ in before[0]]
    assert state(model)[1] == before[1]


class Traced(layers.Layer):
    """Counts how often it is called in Python: once for each trace of a step."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def call(self, inputs, training=None):
        self.calls.append(training)
        return inputs


@pytest.mark.parametrize("fails", [False, True])
def test_training_goes_on_in_the_step_that_was_compiled(fails):
    traced, again = Traced(), Traced()
    models = []
    for layer in (traced, again):
        keras.utils.set_random_seed(0)
        stack = [keras.Input((4,)), layers.Dense(4), Ours(), layer, layers.Dense(4)]
        models.append(compiled(keras.Sequential(stack)))
    model, usual = models
    losses = [train(model, "", 1), train(usual, "", 2)]
    model.predict(X, batch_size=8, verbose=0)
    step, count, predicting = model.train_function, len(traced.calls), model.predict_function
    if fails:
        with pytest.raises(Stop):
            bnzoo.recalibrate(model, Failing("", Stop()))
    else:
        bnzoo.recalibrate(model, batches(""))
    inside = len(traced.calls)
    losses[0] += train(model, "", 1)
    model.predict(X, batch_size=8, verbose=0)
    assert model.train_function is step
    assert model.predict_function is predicting
    assert len(traced.calls) == inside
    assert inside > count
    np.testing.assert_allclose(*losses, rtol=1e-6)  # statistics are no part of a training step


# --- as a callback --------------------------------------------------------------------------------


def assert_fits(model, kind="nested"):
    """Compare a model's statistics with those that its weights have."""
    again = reference.in_float64(lambda: make(kind, Ours), model)
    assert_close(statistics(model), reference.populations(again, batches(kind)))


def test_at_the_end_of_training():
    model, usual = compiled(make("nested", Ours)), compiled(make("nested", Ours))
    for one, callbacks in ((model, [bnzoo.Recalibrate(batches("nested"))]), (usual, [])):
        one.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    for one, other in zip(model.trainable_variables, usual.trainable_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-6)
    assert_fits(model)
    before = state(model)[0]
    model.evaluate(X, Y, verbose=0, callbacks=[bnzoo.Recalibrate(X, every_epoch=True)])
    assert state(model)[0] == before


def averaged(kind):
    """Return a model whose optimizer averages the weights."""
    model = make(kind, Ours)
    model.compile(keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.7), "mse")
    return model


def averages_by_hand(kind, epochs):
    """Return, for each epoch, a float64 model with averaged weights and statistics that fit."""
    model, found = averaged(kind), []
    for _ in range(epochs):
        for x, y in zip(np.split(X, 4), np.split(Y, 4), strict=True):
            model.train_on_batch(x, y)
        again = reference.in_float64(lambda: make(kind, Ours), model)
        averages = model.optimizer._model_variables_moving_average
        for weight, value in zip(again.trainable_variables, averages, strict=True):
            weight.assign(np.asarray(value.numpy(), "float64"))
        for layer, (mean, variance) in zip(
            norms(again), reference.populations(again, batches(kind)).values(), strict=True
        ):
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
        found.append(again)
    return found


class Snapshot(keras.callbacks.Callback):
    """Keeps what a checkpoint would save."""

    def __init__(self):
        super().__init__()
        self.saved = []

    def on_epoch_end(self, epoch, logs=None):
        self.saved.append(
            [each.numpy() for each in self.model.variables if "seed" not in each.path]
        )


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_averaged_weights_are_validated_saved_and_kept_with_statistics_that_fit(swap_on_epoch):
    kind, snapshot = "masked", Snapshot()
    model = averaged(kind)
    callbacks = [
        keras.callbacks.SwapEMAWeights(swap_on_epoch),
        bnzoo.Recalibrate(batches(kind), every_epoch=True),
        snapshot,
    ]
    history = model.fit(X, Y, batch_size=8, shuffle=False, epochs=3, verbose=0,
                        validation_data=(X, Y), callbacks=callbacks).history  # fmt: skip
    expected = averages_by_hand(kind, 3)
    losses = [np.mean((np.asarray(one(X)) - Y) ** 2) for one in expected]
    np.testing.assert_allclose(history["val_loss"], losses, rtol=1e-4)
    if swap_on_epoch:
        for saved, one in zip(snapshot.saved, expected, strict=True):
            for value, weight in zip(saved, one.variables, strict=True):
                np.testing.assert_allclose(value, weight.numpy(), rtol=1e-3, atol=1e-4)
    for one, other in zip(model.variables, expected[-1].variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-3, atol=1e-4)
    assert_close(statistics(model), statistics(expected[-1]), 1e-3)


def test_behind_early_stopping_which_restores_weights():
    model = make("sequential", Ours)
    model.compile(keras.optimizers.SGD(3.0), "mse")
    stopping = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    history = model.fit(X, Y, batch_size=8, epochs=20, verbose=0,
                        callbacks=[stopping, bnzoo.Recalibrate(batches(""))]).history  # fmt: skip
    assert len(history["loss"]) < 20
    assert_fits(model, "sequential")


REPLICAS = """
import keras
import numpy as np
import tensorflow as tf

cpu, two = tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import bnzoo

x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    norm = bnzoo.BatchNormalization(momentum=None, unbiased_moving_variance=True)
    model = keras.Sequential([keras.Input((4,)), norm, keras.layers.Dense(2)])
    model.compile("sgd", "mse")
model.fit(x, x[:, :2], verbose=0, callbacks=[bnzoo.Recalibrate(x, batch_size=16)])
np.testing.assert_allclose(norm.moving_mean.numpy(), x.mean(axis=0), atol=1e-6)
np.testing.assert_allclose(norm.moving_variance.numpy(), x.var(axis=0, ddof=1), rtol=1e-5)
assert norm.num_batches.numpy() == 4
bnzoo.recalibrate(model, x, batch_size=32)
assert norm.num_batches.numpy() == 2
assert not bnzoo.diagnose(model, (x, x[:, :2])).problems
"""


def test_under_a_strategy_a_batch_counts_once():
    paths = [str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", REPLICAS]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_each_epoch_within_a_fit_that_goes_on():
    traced, snapshot = Traced(), Snapshot()
    model, usual = make("sequential", Ours), compiled(make("sequential", Ours))
    model.add(traced)
    callbacks = [bnzoo.Recalibrate(batches(""), every_epoch=True), snapshot]
    options = {"batch_size": 8, "shuffle": False, "epochs": 3, "verbose": 0}
    history = compiled(model).fit(X, Y, validation_data=(X, Y), callbacks=callbacks, **options)
    losses = usual.fit(X, Y, **options).history["loss"]
    np.testing.assert_allclose(history.history["loss"], losses, rtol=1e-5)
    for saved, loss in zip(snapshot.saved, history.history["val_loss"], strict=True):
        for weight, value in zip(usual.variables, saved, strict=True):
            weight.assign(value)
        assert_fits(usual, "sequential")
        np.testing.assert_allclose(np.mean((np.asarray(usual(X)) - Y) ** 2), loss, rtol=1e-5)
    assert traced.calls.count(True) <= 2  # one trace, and one of Keras before it


def test_it_is_not_done_again_while_nothing_has_changed():
    passes = []
    again = bnzoo.Recalibrate(
        X, every_epoch=True, batch_size=8, progress=lambda *at: passes.append(at)
    )
    model = compiled(make("sequential", Ours))
    options = {"batch_size": 8, "epochs": 2, "verbose": 0, "callbacks": [again]}
    model.fit(X, Y, validation_data=(X, Y), **options)
    assert len(passes) == 2 * len(X) / 8
    moving_mean = norms(model)[0].moving_mean
    moving_mean.assign(moving_mean + 1)
    again.update()
    again.update()
    assert len(passes) == 3 * len(X) / 8


# --- bad input ------------------------------------------------------------------------------------


def small(*more):
    return keras.Sequential([keras.Input((4,)), *(more or (Ours(),))], name="small")


def endless():
    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return X

    return Endless()


DATASET = tf.data.Dataset.from_tensor_slices(X)
BAD_DATA = {
    "another shape": (
        X[:, :3],
        r"'small': expected a batch that it takes, got one of shape \(32, 3",
    ),
    "another shape later": ([X, X[:, :3]], r"got one of shape \(32, 3\): .* Bring the data"),
    "words": (np.array([["a"] * 4]), r"expected a batch that it takes, got one of shape \(1, 4\)"),
    "empty": ([], r"without an example, expected at least one batch"),
    "empty array": (X[:0], r"without an example"),
    "empty generator": (iter(()), r"without an example"),
    "empty tf.data": (DATASET.take(0).batch(2), r"without an example"),
    "endless tf.data": (DATASET.batch(2).repeat(), r"repeats for ever, expected num_samples"),
    "endless PyDataset": (endless(), r"repeats for ever, expected num_samples \(--num-samples\)"),
    "not batched": (
        DATASET.map(lambda x: x[0]),
        r"single numbers, expected a tf.data.Dataset.*\.b",
    ),
    "a number": (np.float32(3.0), r"arrays of the shapes \[\(\)\], expected a tf.data.Dataset"),
    "uneven arrays": ((X, Y[:8]), r"of the shapes \[\(32, 4\), \(8, 4\)\], expected .* as many ex"),
    "a word": ("digits", r"Received str, expected a tf.data.Dataset"),
    "a path": (Path("digits"), r"Received PosixPath, expected"),
    "nothing": (None, r"Received NoneType, expected"),
    "NaN": (
        np.full((6, 4), np.nan),
        r"expected batches with finite statistics, .* all 1\. Look for",
    ),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_data_that_will_not_do_is_one_clear_line(name):
    bad, message = BAD_DATA[name]
    model = small()
    before = state(model)
    with pytest.raises(InputError, match=message) as caught:
        bnzoo.recalibrate(model, bad)
    assert "\n" not in str(caught.value)
    assert state(model) == before


@pytest.mark.parametrize("count", [0, -3, 2.5, "8", True])
def test_a_number_of_samples_that_is_none(count):
    with pytest.raises(InputError, match=rf"Received num_samples={count!r}, expected a number"):
        bnzoo.recalibrate(small(), X, count)


def test_a_model_that_has_nothing_to_recalibrate():
    with pytest.raises(InputError, match=r"'small': expected a layer of batch norm.* found none"):
        bnzoo.recalibrate(small(layers.Dense(2)), X)
    with pytest.raises(InputError, match=r"not frozen, got 1 frozen\. .*\.unfreeze_batch_norm"):
        bnzoo.recalibrate(bnzoo.freeze_batch_norm(small()), X)
    with pytest.raises(InputError, match=r"Received 'a\.keras', expected a Keras model"):
        bnzoo.recalibrate("a.keras", X)
    with pytest.raises(InputError, match=r"Received Dense, expected a Keras model"):
        bnzoo.recalibrate(layers.Dense(2), X)


class Unused(keras.Model):
    def __init__(self):
        super().__init__()
        self.norm = Ours()
        self.norm.build((None, 4))

    def call(self, inputs):
        return inputs


def test_a_model_that_does_not_use_its_batch_normalization():
    with pytest.raises(InputError, match=r"expected the model to use its .* found none used"):
        bnzoo.recalibrate(Unused(), X)


def test_a_model_that_is_not_built_is_built_by_the_data():
    model = keras.Sequential([layers.Dense(3), Ours()])
    bnzoo.recalibrate(model, X)
    outputs = model.predict(X, verbose=0)
    np.testing.assert_allclose(outputs.mean(0), 0, atol=1e-5)
    with pytest.raises(InputError, match=r"found none"):
        bnzoo.recalibrate(keras.Sequential([layers.Dense(3)]), X)


# --- on JAX ---------------------------------------------------------------------------------------

SCRIPT = """
import sys

sys.modules["tensorflow"] = None  # any import of TensorFlow now fails

import keras
import numpy as np
import population_reference as reference
from normalized_models import X, Y, compiled, make, train

import bnzoo

assert keras.backend.backend() == "jax"


PARTS = [X[:9], X[9:]]


def assert_fits(model, kind):
    again = reference.same_state(make(kind, bnzoo.BatchNormalization), model)
    expected = reference.populations(again, PARTS)
    for name, (mean, variance) in reference.statistics(model).items():
        np.testing.assert_allclose(mean, expected[name][0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(variance, expected[name][1], rtol=1e-3, atol=1e-4)


class Failing:
    def __iter__(self):
        yield X[:20]
        raise KeyError("broken")


model = compiled(make("subclassed", bnzoo.BatchNormalization))
train(model, "subclassed", 1)
before = [np.asarray(each.value).tobytes() for each in model.variables]
paths = [each.path for each in model.variables]
try:
    bnzoo.recalibrate(model, Failing())
except KeyError as error:
    print(error)
assert [np.asarray(each.value).tobytes() for each in model.variables] == before
bnzoo.recalibrate(model, PARTS)
assert_fits(model, "subclassed")
assert [each.path for each in model.variables] == paths
step = model.train_function
train(model, "subclassed", 1)
assert model.train_function is step

callback = bnzoo.Recalibrate(PARTS, every_epoch=True)
model = make("sequential", bnzoo.BatchNormalization)
model.compile(keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=0.7), "mse")
history = model.fit(X, Y, batch_size=8, epochs=2, validation_data=(X, Y), verbose=0,
                    callbacks=[keras.callbacks.SwapEMAWeights(False), callback]).history
assert_fits(model, "sequential")
found = np.mean((model.predict(X, verbose=0) - Y) ** 2)
np.testing.assert_allclose(history["val_loss"][-1], found, rtol=1e-4)
bnzoo.recalibrate(model, X, layer_by_layer=True)

model.compile(keras.optimizers.SGD(0.01, gradient_accumulation_steps=2), "mse")
model.fit(X, Y, batch_size=8, verbose=0)
assert not bnzoo.diagnose(bnzoo.recalibrate(model, X), (X, Y)).problems
print("done")
"""


def test_it_works_on_jax_where_tensorflow_is_blocked():
    pytest.importorskip("jax")
    assert run_on_jax(SCRIPT).split() == ["'broken'", "done"]
