"""Batch normalization replaced in models of every kind: what stays, changes, and is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from applications import NAMES, application, check_application
from calls import run_on_jax
from keras import layers
from normalized_models import FUNCTIONAL, KINDS, X, Y, answers, compiled, data, make, norms, train

import bnzoo
from bnzoo.errors import InputError

Keras, Ours = keras.layers.BatchNormalization, bnzoo.BatchNormalization
# Some roundings in float32 of numbers of order 1, after a few steps of training.
CLOSE = {"rtol": 0, "atol": 1e-4}


def state(model):
    """Return everything that refers to a model's variables, in order."""
    return [
        *(id(variable) for variable in model.variables),
        *(id(variable) for variable in model.optimizer.variables),
        *(variable.path for variable in model.variables),
        *(layer.trainable for layer in model._flatten_layers()),
    ]


def pairs(*models):
    return zip(*map(norms, models), strict=True)


def kinds_of(model):
    return [type(layer) for layer in norms(model)]


# --- in place -------------------------------------------------------------------------------------


# Back again takes the same way, so that two kinds will do.
THERE, BACK = (Keras, "bnzoo", Ours), (Ours, "keras", Keras)
EACH_WAY = [*((kind, *THERE) for kind in KINDS), *((kind, *BACK) for kind in ("shared", "in_time"))]


@pytest.mark.parametrize(("kind", "norm", "to", "cls"), EACH_WAY)
def test_everything_but_the_class_stays_and_training_goes_on(kind, norm, to, cls):
    usual, model = compiled(make(kind, norm)), compiled(make(kind, norm))
    for one in (usual, model):
        norms(one)[-1].trainable = False
    losses = train(usual, kind), train(model, kind, 1)
    before, layers_before, expected = state(model), norms(model), answers(model, kind)
    assert bnzoo.replace_batch_norm(model, to=to) is model
    assert state(model) == before
    assert all(one is other for one, other in zip(norms(model), layers_before, strict=True))
    assert set(kinds_of(model)) == {cls}
    np.testing.assert_allclose(answers(model, kind), expected, **CLOSE)
    np.testing.assert_allclose([*losses[1], *train(model, kind, 1)], losses[0], rtol=1e-5)
    for one, other in zip(model.variables, usual.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), **CLOSE)


@pytest.mark.parametrize("kind", FUNCTIONAL)
@pytest.mark.parametrize(("norm", "to", "cls"), [THERE, BACK])
def test_it_is_saved_and_loaded_as_what_it_became(kind, norm, to, cls, tmp_path):
    model = bnzoo.replace_batch_norm(make(kind, norm), to=to)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert set(kinds_of(again)) == {cls}
    np.testing.assert_array_equal(answers(again, kind), answers(model, kind))
    assert all(one.get_config() == other.get_config() for one, other in pairs(again, model))


def test_a_subclassed_model_loads_its_weights_whatever_its_layers_are(tmp_path):
    model = bnzoo.replace_batch_norm(make("subclassed", Keras))
    model.save_weights(tmp_path / "model.weights.h5")
    for again in (make("subclassed", Keras), make("subclassed", Ours)):
        again.last.kernel.assign(again.last.kernel * 2)
        again.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_allclose(answers(again, ""), answers(model, ""), **CLOSE)


@pytest.mark.parametrize("arguments", [{}, {"momentum": None}, {"virtual_batch_size": 4}])
def test_layers_that_are_not_built_become_the_same_as_new_ones(arguments):
    def stack(norm):
        keras.utils.set_random_seed(0)
        return keras.Sequential([layers.Dense(6), norm(name="a"), layers.Dense(4)])

    expected = compiled(stack(lambda name: Ours(name=name, **arguments)))
    model = compiled(bnzoo.replace_batch_norm(stack(Keras), **arguments))
    np.testing.assert_allclose(train(model, "", 1), train(expected, "", 1), rtol=1e-6)
    assert [one.name for one in model.variables] == [one.name for one in expected.variables]
    again = Keras.from_config(
        bnzoo.replace_batch_norm(stack(Ours), to="keras").layers[1].get_config()
    )
    assert type(again) is Keras


def test_arguments_change_behavior_in_steps_that_were_compiled_before():
    model = compiled(make("sequential", Keras))
    expected = compiled(make("sequential", lambda **names: Ours(**names, virtual_batch_size=4)))
    for one in (model, expected):
        one.train_on_batch(X, Y)
        one.evaluate(X, Y, verbose=0)
    bnzoo.replace_batch_norm(model, virtual_batch_size=4)
    for one, other in zip(state_of(model), state_of(expected), strict=True):
        one.assign(other)
    for one in (model, expected):
        one.reset_metrics()  # of older Keras train_on_batch averages over batches
    losses = [[one.train_on_batch(X, Y) for _ in range(3)] for one in (model, expected)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    bnzoo.replace_batch_norm(model, momentum=0.5, epsilon=0.1)
    config = norms(model)[0].get_config()
    assert [config[key] for key in ("virtual_batch_size", "momentum", "epsilon")] == [4, 0.5, 0.1]


def state_of(model):
    return [*model.variables, *model.optimizer.variables]


def test_steps_of_models_inside_are_made_anew_too():
    model = make("nested", Keras)
    inner = model.get_layer("middle").get_layer("inner")
    for one in (inner, model):
        one.compile("sgd", "mse")
    target = np.zeros((32, 6), "float32")
    inner.fit(np.ones((32, 6), "float32"), target, verbose=0)
    bnzoo.replace_batch_norm(model, virtual_batch_size=4, momentum=0.0)
    half = np.repeat([[0.0] * 6, [2.0] * 6], 16, axis=0).astype("float32")
    inner.fit(half, target, batch_size=32, shuffle=False, verbose=0)
    # Of each ghost by itself; of the whole batch it would be 1.
    assert norms(inner)[0].moving_variance.numpy().max() < 1e-6


def test_a_cumulative_average_gains_its_count_and_loses_it_on_the_way_back(tmp_path):
    model = compiled(make("nested", Keras))
    train(model, "nested", 1)
    names = [variable.path for variable in model.variables]
    bnzoo.replace_batch_norm(model, momentum=None)
    new = [path for path in (variable.path for variable in model.variables) if path not in names]
    assert sorted(new) == sorted(f"{layer.path}/num_batches" for layer in norms(model))
    train(model, "nested", 1)
    # Four batches; the layer inside meets each of them twice.
    assert [float(layer.num_batches) for layer in norms(model)] == [4, 8, 4]
    model.save(tmp_path / "model.keras")
    again = bnzoo.load_model(tmp_path / "model.keras")
    assert [float(layer.num_batches) for layer in norms(again)] == [4, 8, 4]
    expected = answers(again, "nested")
    bnzoo.replace_batch_norm(again, to="keras", force=True)
    assert len(again.variables) == len(names)
    assert [layer.momentum for layer in norms(again)] == [0.99] * 3
    assert not [layer for layer in norms(again) if hasattr(layer, "num_batches")]
    np.testing.assert_allclose(answers(again, "nested"), expected, **CLOSE)
    bnzoo.replace_batch_norm(again, momentum=None)
    bnzoo.replace_batch_norm(again, momentum=0.9)
    assert len(again.variables) == len(names)
    train(again, "nested", 1)


LOST = {
    "implementation": "xla",
    "virtual_batch_size": 4,
    "unbiased_moving_variance": True,
    "frozen_statistics": True,
    "momentum": None,
}


@pytest.mark.parametrize("name", LOST)
def test_what_keras_layer_lacks_is_an_error_unless_forced(name):
    model = make("nested", Keras)
    bnzoo.replace_batch_norm(model, **{name: LOST[name]})
    with pytest.raises(InputError, match=rf"layer 'b'.*{name}={LOST[name]!r}.*force=True"):
        bnzoo.replace_batch_norm(model, to="keras")
    assert [getattr(layer, name) for layer in norms(model)] == [LOST[name]] * 3
    bnzoo.replace_batch_norm(model, to="keras", force=True)
    assert set(kinds_of(model)) == {Keras}
    assert (
        norms(model)[0].get_config()
        == make("nested", Keras).get_layer("middle").get_layer("a").get_config()
    )


def test_another_momentum_may_stand_for_the_one_that_keras_lacks():
    model = bnzoo.replace_batch_norm(make("sequential", Keras), momentum=None)
    bnzoo.replace_batch_norm(model, to="keras", momentum=0.9)
    assert norms(model)[0].momentum == 0.9


def test_subclasses_that_may_do_more_are_left():
    class Special(Keras):
        pass

    stack = [keras.Input((4,)), Special(name="a"), Keras(name="b")]
    model = bnzoo.replace_batch_norm(keras.Sequential(stack))
    assert kinds_of(model) == [Special, Ours]
    with pytest.raises(InputError, match="found only its subclass Special"):
        bnzoo.replace_batch_norm(keras.Sequential([keras.Input((4,)), Special()]))


BAD = {
    "momentum": ({"momentum": 2.0}, r"layer 'b': Received momentum=2.0, expected a number from"),
    "ghost": ({"virtual_batch_size": 1}, r"layer 'b': Received virtual_batch_size=1, expected an"),
    "pair": (
        {"virtual_batch_size": 8, "synchronized": True},
        r"layer 'b': Received virtual_batch_size=8 with synchronized=True, expected at most one",
    ),
    "unknown": ({"momentun": 0.9}, r"Received momentun=0.9 with to='bnzoo'.*mean 'momentum'"),
    "another's": ({"groups": 4}, r"Received groups=4 with to='bnzoo', expected only \['momentum'"),
    "structure": ({"center": False}, r"Received center=False with to='bnzoo', expected only"),
    "keras": ({"to": "keras", "groups": 4}, r"Received groups=4 with to='keras', expected only"),
    "none": ({"to": None, "epsilon": 1e-3}, r"epsilon=0.001 with to=None, expected no arguments"),
    "to": ({"to": "kras"}, r"Received to='kras', expected one of .*or None. Did you mean 'keras'"),
    "groups": ({"to": "group_norm", "groups": 0}, r"Received groups=0, expected an integer of at"),
    "epsilon": ({"to": "group_norm", "epsilon": -1}, r"Received epsilon=-1, expected a number"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused_and_change_nothing(name):
    arguments, message = BAD[name]
    model = make("nested", Keras)
    with pytest.raises(InputError, match=message):
        bnzoo.replace_batch_norm(model, **arguments)
    assert set(kinds_of(model)) == {Keras}


def test_an_error_in_a_later_layer_leaves_the_earlier_ones_as_they_were():
    model = make("nested", Ours)
    norms(model)[1].virtual_batch_size = 4
    with pytest.raises(InputError, match="layer 'b'"):
        bnzoo.replace_batch_norm(model, to="keras")
    assert set(kinds_of(model)) == {Ours}


def test_a_model_without_batch_normalization_says_so():
    model = keras.Sequential([keras.Input((4,)), layers.LayerNormalization()], name="plain")
    for to in ("bnzoo", "keras", "group_norm", None):
        with pytest.raises(InputError, match=r"model 'plain': expected a layer .*, found none"):
            bnzoo.replace_batch_norm(model, to=to)


def test_what_is_no_model_says_so():
    with pytest.raises(InputError, match=r"Received 'model.keras', expected a Keras model.*load_m"):
        bnzoo.replace_batch_norm("model.keras")


def test_bad_batches_are_counted_in_a_model_that_was_replaced():
    model, bad = compiled(make("sequential", Keras)), bnzoo.BadBatches()
    train(model, "", 1)
    bnzoo.replace_batch_norm(model)
    with pytest.warns(UserWarning, match="held NaN or infinity: 1"):
        model.fit(X * np.nan, Y, batch_size=32, verbose=0, callbacks=[bad])
    assert bad.total == 1


def test_a_model_of_a_strategy_stays_one():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = compiled(make("sequential", Keras))
    train(model, "", 1)
    bnzoo.replace_batch_norm(model, synchronized=True)
    assert np.isfinite(train(model, "", 1)).all()
    assert norms(model)[0].synchronized


# --- new models -----------------------------------------------------------------------------------

GRAPHS = [kind for kind in FUNCTIONAL if kind != "in_time"]


@pytest.mark.parametrize(("kind", "norm"), [*((kind, Keras) for kind in GRAPHS), ("several", Ours)])
def test_nothing_in_its_place_answers_as_without(kind, norm):
    model = make(kind, norm)
    for layer in norms(model):  # now each of them returns what it gets
        layer.set_weights(
            [
                np.full(
                    weight.shape,
                    {"gamma": 1, "moving_variance": 1 - layer.epsilon}.get(weight.name, 0),
                )
                for weight in layer.weights
            ]
        )
    bare = bnzoo.replace_batch_norm(model, to=None)
    assert norms(bare) == []
    assert set(kinds_of(model)) == {norm}
    np.testing.assert_allclose(answers(bare, kind), answers(model, kind), **CLOSE)


def test_a_linear_layer_gains_a_bias_where_the_shift_is_gone():
    model = make("inverted_residual", Keras)
    bare = bnzoo.replace_batch_norm(model, to=None)
    convolutions = [layer for layer in bare.layers if "conv" in layer.name]
    assert len(convolutions) == 4
    for layer in convolutions:
        assert layer.use_bias
        assert not layer.bias.numpy().any()
        np.testing.assert_array_equal(layer.weights[0], model.get_layer(layer.name).weights[0])


def test_a_linear_layer_with_another_user_gains_none():
    inputs = keras.Input((4,))
    dense = layers.Dense(4, use_bias=False, name="dense")(inputs)
    model = keras.Model(inputs, layers.Add()([dense, Keras()(dense)]))
    assert not bnzoo.replace_batch_norm(model, to=None).get_layer("dense").use_bias


@pytest.mark.parametrize("kind", GRAPHS)
def test_group_norm_takes_its_place(kind):
    model = make(kind, Keras)
    grouped = bnzoo.replace_batch_norm(model, to="group_norm", groups=4, epsilon=1e-5)
    assert norms(grouped) == []
    by_name = {layer.name: layer for layer in norms(model)}
    found = {one.name: one for one in grouped._flatten_layers()
             if isinstance(one, layers.GroupNormalization)}  # fmt: skip
    assert found.keys() == by_name.keys()
    for name, layer in found.items():
        assert layer.epsilon == 1e-5
        for weight in layer.weights:
            np.testing.assert_array_equal(weight, getattr(by_name[name], weight.name))
    alone = [
        np.concatenate(keras.tree.flatten(grouped(keras.tree.map_structure(lambda x: x[:1], x))))
        for x in data(kind)[:1]
    ]
    together = keras.tree.flatten(grouped(data(kind)[0], training=True))
    np.testing.assert_allclose(alone[0], np.concatenate([each[:1] for each in together]), **CLOSE)


@pytest.mark.parametrize("to", [None, "group_norm"])
def test_a_new_model_can_be_trained(to):
    model = compiled(bnzoo.replace_batch_norm(make("inverted_residual", Keras), to=to))
    losses = train(model, "", 8)
    assert losses[-1] < losses[0]


def test_groups_are_a_divisor_of_the_channels_and_one_where_there_are_no_places():
    def groups(shape, axis=-1, **arguments):
        model = keras.Sequential([keras.Input(shape), Keras(axis=axis)])
        (layer,) = bnzoo.replace_batch_norm(model, to="group_norm", **arguments).layers[1:]
        return layer.groups

    assert groups((8, 8, 64)) == groups((64, 8, 8), axis=1) == groups((None, 64)) == 32
    assert (groups((8, 8, 48)), groups((8, 8, 24)), groups((8, 3))) == (16, 8, 1)
    assert groups((8, 8, 64), groups=6) == 2
    assert groups((64,)) == groups((1, 1, 64)) == 1


def test_other_layers_keep_all_their_state_and_other_models_their_options():
    normalization = layers.Normalization()
    normalization.adapt(X)
    stack = [normalization, layers.Dense(4, activation="relu", trainable=False), Keras()]
    model = keras.Sequential([keras.Input((4,)), *stack], name="mine")
    for to in (None, "group_norm"):
        new = bnzoo.replace_batch_norm(model, to=to)
        assert new.name == "mine"
        assert not new.layers[2].trainable
        np.testing.assert_allclose(
            keras.Model(new.input, new.layers[2].output)(X), model.layers[1](normalization(X)),
            rtol=1e-6,
        )  # fmt: skip


@pytest.mark.parametrize("to", [None, "group_norm"])
def test_a_new_model_needs_a_graph_and_batch_normalization_in_it(to):
    with pytest.raises(InputError, match=r"got Network, whose layers are not connected as a graph"):
        bnzoo.replace_batch_norm(make("subclassed", Keras), to=to)
    message = r"expected each batch normalization as a layer of the graph, got '[ab]', a BatchNorm"
    with pytest.raises(InputError, match=message):
        bnzoo.replace_batch_norm(make("in_time", Keras), to=to)


# --- on JAX, and in the networks of keras.applications --------------------------------------------

SCRIPT = """
import sys

sys.modules["tensorflow"] = None  # any import of TensorFlow now fails

import keras
import numpy as np
from normalized_models import KINDS, answers, compiled, make, norms, train

import bnzoo

Keras, Ours = keras.layers.BatchNormalization, bnzoo.BatchNormalization
assert keras.backend.backend() == "jax"
model = compiled(make("subclassed", Keras))
train(model, "", 1)
expected = answers(model, "")
bnzoo.replace_batch_norm(model, momentum=None)
assert {type(layer) for layer in norms(model)} == {Ours}
np.testing.assert_allclose(answers(model, ""), expected, atol=1e-4)
bnzoo.freeze_batch_norm(model, statistics_only=True)
before = [np.asarray(layer.moving_mean) for layer in norms(model)]
train(model, "", 1)
assert [float(layer.num_batches) for layer in norms(model)] == [0, 0, 0, 0]
for layer, mean in zip(norms(model), before):
    assert (np.asarray(layer.moving_mean) == mean).all()
bnzoo.unfreeze_batch_norm(model)
train(model, "", 1)
assert [float(layer.num_batches) for layer in norms(model)] == [4, 4, 4, 4]
bnzoo.replace_batch_norm(model, to="keras", force=True)
train(model, "", 1)
assert {type(layer) for layer in norms(model)} == {Keras}
try:
    bnzoo.replace_batch_norm(model, synchronized=True)
except bnzoo.InputError as error:
    print(error)
"""


def test_it_works_on_jax_where_tensorflow_is_blocked():
    pytest.importorskip("jax")
    assert "Received synchronized=True on the jax backend" in run_on_jax(SCRIPT)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_networks_of_keras_applications(name, tmp_path):
    check_application(name, tmp_path)


@pytest.mark.slow
def test_convnext_has_none_and_says_so():
    with pytest.raises(InputError, match=r"model 'convnext_tiny': expected a layer .* found none"):
        bnzoo.replace_batch_norm(application("ConvNeXtTiny"))
