"""Batch normalization frozen: statistics bit by bit as they were, whatever the rest learns."""

import keras
import numpy as np
import pytest
from keras import layers
from normalized_models import X, Y, compiled, make, norms, train

import bnzoo
from bnzoo.errors import InputError

Keras, Ours = keras.layers.BatchNormalization, bnzoo.BatchNormalization
BOTH = pytest.mark.parametrize("norm", [Keras, Ours])
STATISTICS = ("moving_mean", "moving_variance")


def values(model, *names):
    """Return the weights of all batch normalization, or those of some names."""
    return [
        weight.numpy()
        for layer in norms(model)
        for weight in layer.weights
        if not names or weight.name in names
    ]


def assert_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_all_differ(ones, others):
    assert all((one != other).any() for one, other in zip(ones, others, strict=True))


@BOTH
@pytest.mark.parametrize("kind", ["in_time", "subclassed", "masked"])
def test_statistics_gamma_and_beta_rest_while_the_rest_trains(kind, norm):
    model = make(kind, norm)
    assert bnzoo.freeze_batch_norm(model) is model
    compiled(model)
    before, all_before = values(model), model.get_weights()
    train(model, kind, 1)
    assert_same(values(model), before)
    changed = [(a != b).any() for a, b in zip(model.get_weights(), all_before, strict=True)]
    assert sum(changed) == len(all_before) - len(before)
    np.testing.assert_allclose(model(X, training=True), model(X, training=False), rtol=1e-6)


@BOTH
def test_a_step_that_was_compiled_before_is_made_anew(norm):
    model = compiled(make("nested", norm))
    train(model, "nested", 1)
    before = values(bnzoo.freeze_batch_norm(model))
    train(model, "nested", 1)
    assert_same(values(model), before)


@BOTH
def test_it_survives_compiling_saving_and_loading(norm, tmp_path):
    model = compiled(bnzoo.freeze_batch_norm(make("nested", norm)))
    train(model, "nested", 1)
    model.save(tmp_path / "model.keras")
    again = bnzoo.load_model(tmp_path / "model.keras")
    train(again, "nested", 1)
    train(compiled(again), "nested", 1)
    assert_same(values(again), values(model))


@BOTH
def test_unfreezing_lets_everything_move(norm):
    model = compiled(bnzoo.unfreeze_batch_norm(bnzoo.freeze_batch_norm(make("shared", norm))))
    before = values(model)
    train(model, "shared", 1)
    assert_all_differ(values(model), before)


def test_gamma_and_beta_may_learn_while_the_statistics_rest(tmp_path):
    model = compiled(make("nested", Ours))
    train(model, "nested", 1)
    statistics = values(bnzoo.freeze_batch_norm(model, statistics_only=True), *STATISTICS)
    affine = values(model, "gamma", "beta")
    train(model, "nested", 1)
    assert_same(values(model, *STATISTICS), statistics)
    assert_all_differ(values(model, "gamma", "beta"), affine)
    model.save(tmp_path / "model.keras")
    again = bnzoo.load_model(tmp_path / "model.keras")
    assert_same(values(again), values(model))
    affine = values(again, "gamma", "beta")
    train(again, "nested", 1)
    assert_same(values(again, *STATISTICS), statistics)
    assert_all_differ(values(again, "gamma", "beta"), affine)
    bnzoo.unfreeze_batch_norm(again)
    train(again, "nested", 1)
    assert_all_differ(values(again, *STATISTICS), statistics)


def test_frozen_statistics_have_the_gradients_of_inference():
    """Against Keras' layer called in inference, whose gamma and beta learn too."""
    import tensorflow as tf

    ours, theirs = Ours(frozen_statistics=True, virtual_batch_size=4, momentum=None), Keras()
    random = np.random.default_rng(0)
    gradients = []
    for layer in (ours, theirs):
        layer.build(X.shape)
    theirs.set_weights([random.uniform(0.5, 1.5, 4) for _ in range(4)])
    ours.set_weights([*theirs.get_weights(), np.zeros(())])
    for layer, training in ((ours, True), (theirs, False)):
        with tf.GradientTape() as tape:
            x = tf.constant(X)
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=training) * Y)
        gradients.append(tape.gradient(loss, [x, layer.gamma.value, layer.beta.value]))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert float(ours.num_batches) == 0


def test_a_layer_that_was_frozen_as_a_whole_keeps_its_gamma():
    model = make("nested", Ours)
    norms(model)[0].trainable = False
    compiled(bnzoo.freeze_batch_norm(model, statistics_only=True))
    before = norms(model)[0].get_weights()
    train(model, "nested", 1)
    assert_same(norms(model)[0].get_weights(), before)


def test_keras_layer_cannot_freeze_its_statistics_alone():
    model = make("nested", Keras)
    with pytest.raises(InputError, match=r"'b': expected a bnzoo.BatchNorm.*replace_batch_norm"):
        bnzoo.freeze_batch_norm(model, statistics_only=True)
    bnzoo.freeze_batch_norm(bnzoo.replace_batch_norm(model), statistics_only=True)
    assert all(layer.frozen_statistics for layer in norms(model))


def test_subclasses_are_frozen_too():
    class Special(Keras):
        pass

    model = bnzoo.freeze_batch_norm(keras.Sequential([keras.Input((4,)), Special()]))
    assert not model.layers[0].trainable


@pytest.mark.parametrize("change", [bnzoo.freeze_batch_norm, bnzoo.unfreeze_batch_norm])
def test_a_model_without_batch_normalization_or_none_at_all_says_so(change):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)], name="plain")
    with pytest.raises(InputError, match=r"model 'plain': expected .* found none"):
        change(model)
    with pytest.raises(InputError, match=r"Received 'model\.keras', expected a Keras"):
        change("model.keras")
