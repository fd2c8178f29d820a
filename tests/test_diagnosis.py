"""Each thing that can be wrong with batch normalization is found, and nothing in healthy models."""

import json

import broken_models
import keras
import numpy as np
import pytest
import tensorflow as tf
from broken_models import compiled, norms
from keras import layers

import bnzoo
import bnzoo.data
from bnzoo.diagnosis import Diagnosis
from bnzoo.diagnosis.measuring import Tally
from bnzoo.diagnosis.statistics import is_worse
from bnzoo.errors import InputError
from bnzoo.reporting.formatting import MINUS

# What each way to break a model is found as: the kinds of problem.
BROKEN = {
    "far_off": {"modes", "far_statistics"},
    "too_wide": {"modes", "far_statistics"},
    "poisoned": {"modes", "not_finite"},
    "negative": {"modes", "not_finite"},
    "never_trained": {"modes", "far_statistics", "few_steps"},
    "without_gamma": {"dead_channels"},
    "never_positive": {"dead_channels"},
    "exploded": {"exploding"},
}


@pytest.fixture(scope="module")
def all_digits():
    splits = bnzoo.data.load("digits", batch_size=32)
    return [np.concatenate(one) for one in zip(*splits.train.as_numpy_iterator(), strict=True)]


@pytest.fixture(scope="module")
def digits(all_digits):
    return tuple(part[:160] for part in all_digits)


@pytest.fixture(scope="module")
def trained(all_digits):
    return broken_models.zoo_model(*all_digits)


@pytest.fixture
def model(trained):
    """A healthy model, to be broken; eager, as tracing takes longer than all else here."""
    copy = keras.models.clone_model(trained)
    compiled(copy, run_eagerly=True).optimizer.build(copy.trainable_variables)
    copy.set_weights(trained.get_weights())
    copy.optimizer.iterations.assign(trained.optimizer.iterations)
    return copy


def kinds(found: Diagnosis, level="problem"):
    return {one.kind for one in found.findings if one.level == level}


def test_a_healthy_model_has_no_problem(model, digits):
    before = model.get_weights()
    found = bnzoo.diagnose(model, digits)
    assert not found.problems, str(found)
    assert found.record["verdict"] == "The batch normalization of this model is healthy."
    assert kinds(found, "note") == {"redundant_bias"}
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_layer_is_found_by_what_is_wrong_with_it(model, digits, how):
    layer = norms(model)[1]
    getattr(broken_models, how)(model, digits, layer)
    found = bnzoo.diagnose(model, digits)
    assert kinds(found) == BROKEN[how], str(found)
    of_layers = [one for one in found.problems if one.layer]
    assert layer.name in {one.layer for one in of_layers}
    if how != "never_trained":
        assert {one.layer for one in of_layers} == {layer.name}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("far_off", "without_gamma"),
        ("poisoned", "never_positive"),
        ("too_wide", "exploded"),
        ("without_gamma", "exploded"),
    ],
)
def test_two_at_once_are_both_found(model, digits, first, second):
    one, other = norms(model)[0], norms(model)[2]
    # What recalibrates comes first, or it would repair the other.
    getattr(broken_models, second)(model, digits, other)
    getattr(broken_models, first)(model, digits, one)
    found = bnzoo.diagnose(model, digits)
    assert kinds(found) == BROKEN[first] | BROKEN[second], str(found)
    by_layer = {finding.layer: finding.kind for finding in found.problems if finding.layer}
    assert set(by_layer) == {one.name, other.name}


def test_the_cost_and_the_repair_are_told_and_true(model, digits):
    broken_models.far_off(model, digits, norms(model)[1])
    before = model.evaluate(*digits, verbose=0)
    found = bnzoo.diagnose(model, digits)
    worst = found.findings[0]
    assert worst.kind == "modes"
    assert worst.command == "bnzoo.recalibrate(model, data)"  # of a model in Python
    assert worst.numbers["inference_loss"] == pytest.approx(before[0], rel=1e-4)
    assert worst.numbers["training_loss"] < before[0] / 2
    far = next(one for one in found.problems if one.kind == "far_statistics")
    assert far.numbers["mean_off"] == pytest.approx(3, rel=0.2)
    assert far.numbers["loss"] > 0.1
    bnzoo.recalibrate(model, digits)
    after = model.evaluate(*digits, verbose=0)
    assert after[0] == pytest.approx(found.record["modes"]["recalibrated"]["loss"], rel=1e-3)
    assert not bnzoo.diagnose(model, digits).problems


def test_the_verdict_names_the_layer_and_what_recalibration_changes(model, digits):
    """The modes agree here, whatever the layers do: the head's weights are zeros."""
    model.layers[-1].kernel.assign(0 * model.layers[-1].kernel)
    for _ in range(2):
        broken_models.too_wide(model, digits, norms(model)[1])
    found = bnzoo.diagnose(model, digits)
    assert kinds(found) == {"far_statistics"}
    verdict = found.record["verdict"]
    assert verdict.startswith(f"Moving statistics far from the data's ({norms(model)[1].name}). ")
    assert "e+" not in verdict  # thousands are written out
    means = found.record["modes"]["inference"]
    told = [f"{name} {means[name]:.3g} becomes {means[name]:.3g}" for name in means]
    assert f"Recalibrate it. With recalibrated statistics {', '.join(told)}." in verdict


def test_the_momentum_is_told_before_what_follows_from_it(model, digits):
    broken_models.never_trained(model, digits, norms(model)[1])
    order = list(dict.fromkeys(one.kind for one in bnzoo.diagnose(model, digits).problems))
    assert order == ["modes", "few_steps", "far_statistics"]


def test_data_that_seem_scaled_otherwise_than_in_training_are_doubted(model, digits):
    x, y = digits
    found = bnzoo.diagnose(model, (8 * x - 4, y))
    assert found.problems
    assert found.record["values"] == [-4, 4]
    doubt = "Only the layer nearest to the input is off: first make sure that the data are scaled"
    assert doubt in found.record["verdict"]
    assert f"here they have values {MINUS}4 to 4." in found.record["verdict"]
    broken_models.far_off(model, digits, norms(model)[1])
    assert doubt not in bnzoo.diagnose(model, digits).record["verdict"]


@pytest.mark.parametrize(
    ("accuracy", "examples", "worse"),
    [(0.09, 1024, True), (0.18, 1024, False), (0.09, 32, False), (0.30, 1024, False)],
)
def test_a_fifth_of_the_accuracy_is_worse_at_any_loss(accuracy, examples, worse):
    losses = np.full(examples // 32, 2.2)
    one, other = (
        Tally(examples, {"loss": 2.2, "accuracy": share}, losses, None) for share in (accuracy, 0.2)
    )
    assert is_worse(one, other) is worse


def test_moving_statistics_that_came_with_the_model_are_not_too_few_steps(model, digits):
    for layer in norms(model):
        layer.momentum = 0.999
    model.optimizer.iterations.assign(5)
    assert "few_steps" not in kinds(bnzoo.diagnose(model))
    assert "few_steps" not in kinds(bnzoo.diagnose(model, digits))


def test_weights_alone_tell_what_they_can(model, digits):
    layer = norms(model)[0]
    broken_models.never_trained(model, digits, layer)
    broken_models.poisoned(model, digits, layer)
    values = norms(model)[2].gamma.numpy()
    norms(model)[2].gamma.assign(np.where(np.arange(values.size) < 12, 0, values))
    found = bnzoo.diagnose(model)
    assert kinds(found) == {"not_finite", "few_steps", "dead_channels"}
    assert found.record["examples"] is None


def test_a_mean_far_from_zero_is_found():
    x = np.random.default_rng(0).normal(3e5, 1, (256, 6)).astype("float32")
    stack = [keras.Input((6,)), layers.BatchNormalization(), layers.Dense(3)]
    model = bnzoo.recalibrate(keras.Sequential(stack), x)
    assert kinds(bnzoo.diagnose(model, x)) == {"far_from_zero"}
    assert kinds(bnzoo.diagnose(model)) == {"far_from_zero"}


def test_half_precision_hurts_sooner():
    x = np.random.default_rng(0).normal(30, 1, (256, 6)).astype("float32")
    norm = layers.BatchNormalization(dtype="mixed_bfloat16")
    model = bnzoo.recalibrate(keras.Sequential([keras.Input((6,)), norm, layers.Dense(3)]), x)
    assert "far_from_zero" in kinds(bnzoo.diagnose(model, x))


@pytest.mark.parametrize(
    ("size", "replicas", "ghosts", "is_found"),
    [(4, 1, None, True), (64, 1, None, False), (64, 16, None, True), (64, 1, 4, True)],
)
def test_a_batch_too_small_is_found_by_its_noise(size, replicas, ghosts, is_found):
    x = np.random.default_rng(0).normal(size=(512, 8)).astype("float32")
    norm = bnzoo.BatchNormalization(virtual_batch_size=ghosts)
    stack = [keras.Input((8,)), layers.Dense(16), norm, layers.ReLU(), layers.Dense(3)]
    model = bnzoo.recalibrate(keras.Sequential(stack), x)
    found = bnzoo.diagnose(model, x, batch_size=size, num_replicas=replicas)
    assert ("small_batch" in kinds(found)) is is_found, str(found)
    if is_found:
        finding = next(one for one in found.problems if one.kind == "small_batch")
        assert finding.numbers["batch_size"] == 4
        assert finding.numbers["noise"] == pytest.approx(0.5, rel=0.2)


def test_batch_normalization_behind_the_last_layer_is_found():
    stack = [keras.Input((64,)), layers.Dense(10), layers.BatchNormalization(), layers.Softmax()]
    model = keras.Sequential(stack)
    assert "last_layer" in kinds(bnzoo.diagnose(model), "note")
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert "last_layer" in kinds(bnzoo.diagnose(model))
    outer = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), model])
    compiled(outer)
    assert "last_layer" in kinds(bnzoo.diagnose(outer))


def test_frozen_layers_are_named_with_what_froze_them(model, digits):
    broken_models.frozen(model, digits, norms(model)[0])
    norms(model)[1].frozen_statistics = True
    norms(model)[2].momentum = 1.0
    why = {one.layer: one.what for one in bnzoo.diagnose(model).findings if one.kind == "frozen"}
    texts = ["its trainable is False", "frozen_statistics is True", "momentum is 1"]
    for layer, text in zip(norms(model), texts, strict=True):
        assert text in why[layer.name]
    model.trainable = False
    assert "the whole model" in bnzoo.diagnose(model).findings[0].what


def test_a_frozen_layer_that_is_far_off_is_a_note(model, digits):
    for layer in norms(model):
        layer.moving_mean.assign_add(0.5 * np.sqrt(layer.moving_variance))
        layer.trainable = False
    found = bnzoo.diagnose(model, digits)
    assert not found.problems, str(found)
    assert {"far_statistics", "frozen"} <= kinds(found, "note")


def test_layers_frozen_before_they_saw_data_are_a_problem(digits):
    model = bnzoo.freeze_batch_norm(
        bnzoo.models.build("three_conv", input_shape=(8, 8, 1), activation="elu")
    )
    found = bnzoo.diagnose(model, digits)
    assert kinds(found) == {"far_statistics"}
    assert "unfreeze" in found.problems[0].what_to_do


def test_without_labels_or_a_loss_the_outputs_are_compared(model, digits):
    broken_models.far_off(model, digits, norms(model)[1])
    x, _ = digits
    unlabeled = bnzoo.diagnose(model, x)
    uncompiled = bnzoo.diagnose(keras.Model(model.input, model.output), digits)
    for found in (unlabeled, uncompiled):
        assert kinds(found) == {"modes", "far_statistics"}
        assert found.record["modes"]["inference"] == {}


def test_a_layer_with_its_own_call_is_left_alone(digits):
    class Own(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return inputs

    model = keras.Sequential([keras.Input((4,)), Own(), layers.Dense(2)])
    found = bnzoo.diagnose(model, np.ones((8, 4), "float32"))
    assert "own_call" in kinds(found, "note")


def test_layers_that_export_cannot_merge_are_noted_with_the_reason():
    norm = layers.BatchNormalization(name="norm")
    stack = [keras.Input((3, 4)), layers.TimeDistributed(norm, name="each")]
    inner = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="norm")], name="in")
    found = bnzoo.diagnose(keras.Sequential([*stack, layers.Flatten(), layers.Dense(4), inner]))
    notes = {one.layer: one.what for one in found.findings if one.kind == "not_folded"}
    assert set(notes) == {"each/norm", "in/norm"}
    assert "inside" in notes["each/norm"]
    assert [one["name"] for one in found.record["layers"]] == ["each/norm", "in/norm"]


def test_a_model_without_batch_normalization_says_so(digits):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    found = bnzoo.diagnose(model, np.ones((8, 4), "float32"))
    assert found.findings == ()
    assert str(found) == f"{model.name}: There is no batch normalization in this model."


def test_the_record_is_json_and_the_table_readable(model, digits):
    broken_models.poisoned(model, digits, norms(model)[0])
    broken_models.far_off(model, digits, norms(model)[1])
    found = bnzoo.diagnose(model, digits)
    record = json.loads(found.to_json())
    assert [one["level"] for one in record["findings"]] == sorted(
        (one["level"] for one in record["findings"]), reverse=True
    )
    assert f"  inference   {record['modes']['inference']['accuracy']:18.4f}    not finite" in str(
        found
    )
    far_away = found.named("model.keras", f"npz:{'folder/' * 8}data.npz, training split", "")
    for one in (found, far_away):
        assert max(map(len, str(one).splitlines())) <= 100
    picture = record["picture"]
    assert picture["layer"] == norms(model)[1].name
    widths = np.diff(picture["edges"])
    assert np.sum(widths * picture["density"]) == pytest.approx(1)
    assert abs(picture["moving"]["mean"] - picture["data"]["mean"]) > 1e-3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.ones((8, 5, 5, 1), "float32"), "expected a batch that it takes"),
        (np.ones((0, 8, 8, 1), "float32"), "without an example"),
        (tf.data.Dataset.from_tensors(np.ones((2, 8, 8, 1))).repeat(), "num_samples"),
        ("digits.npz", "expected a tf.data.Dataset"),
        ((np.ones((8, 8, 8, 1)), np.ones((8, 3))), "labels that its loss takes"),
    ],
)
def test_bad_data_is_one_clear_error_and_the_model_as_it_was(model, data, words):
    before = model.get_weights()
    with pytest.raises(InputError, match=words):
        bnzoo.diagnose(model, data)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_endless_data_need_a_number(model, digits):
    endless = tf.data.Dataset.from_tensor_slices(digits).repeat().batch(32)
    assert bnzoo.diagnose(model, endless, 100).record["examples"] == 128


def test_what_is_no_model_is_refused():
    with pytest.raises(InputError, match="expected a Keras model"):
        bnzoo.diagnose("model.keras")
