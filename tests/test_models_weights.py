"""The trained models that ship: they are what their cards say, and answer as well on real data."""

import hashlib

import keras
import make_results
import numpy as np
import pytest
from calls import run_on_jax

import bnzoo.data
import bnzoo.layers
from bnzoo.config import load_config
from bnzoo.config.loading import starter_configs, validate
from bnzoo.config.models.trained import (
    WEIGHTS_FOLDER,
    card_parameters,
    measured_accuracies,
    weight_cards,
)
from bnzoo.errors import InputError
from bnzoo.models import build

MODELS = [
    ("dense", "mnist", "before"),
    ("dense", "mnist", "none"),
    ("three_conv", "devanagari_digits", "before"),
    ("three_conv", "devanagari_digits", "none"),
]
PLACEMENTS = ("none", "before", "after")
CONFIGS = {"dense": "dense_mnist", "three_conv": "three_conv_devanagari"}


def key(card):
    return card["model"], card["weights"], card["placement"]


by_card = pytest.mark.parametrize("card", weight_cards(), ids=lambda card: "-".join(key(card)))


def test_four_models_ship_each_with_and_without_batch_normalization():
    assert [key(card) for card in weight_cards()] == MODELS


def test_together_they_take_less_than_2_mib():
    assert sum(file.stat().st_size for file in WEIGHTS_FOLDER.iterdir()) < 2 * 2**20


@by_card
def test_the_stated_number_of_right_answers_holds_on_the_real_test_set(card, data_dir):
    """Exactly: the closest decision is by 7e-4 between logits, which float32 has off by 2e-5."""
    logits, labels = answers(card)
    assert int((logits.argmax(axis=1) == labels).sum()) == card["test"]["right"]
    assert len(labels) == card["test"]["examples"]


def answers(card):
    """Return the logits of shape (examples, classes) of the test split, and its labels."""
    model = build(card["model"], card["placement"], weights=card["weights"])
    batches = bnzoo.data.load(card["weights"], batch_size=500).test.as_numpy_iterator()
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return model.predict(images, batch_size=500, verbose=0), labels


@by_card
def test_a_card_has_what_reproduces_its_model_and_names_the_data_s_license(card):
    file = WEIGHTS_FOLDER / card["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == card["sha256"]
    assert file.stat().st_size == card["bytes"]
    assert f"model.placement={card['placement']}" in card["command"]
    assert card["seed"] == card["config"]["seed"] == 0
    assert card["seconds"] > 0
    assert {"cpu", "cores"} <= set(card["machine"])
    assert {"python", "tensorflow", "keras", "bnzoo"} <= set(card["versions"])
    data = card["data"]
    assert data["license"].startswith("CC BY")
    assert data["license_url"].startswith("https://creativecommons.org/licenses/by")
    author = {"mnist": "LeCun", "devanagari_digits": "Acharya"}[card["weights"]]
    assert author in data["attribution"]
    assert data["preprocessing"]["scale"] == 1 / 255
    assert len(data["class_names"]) == 10


@by_card
def test_a_card_s_run_is_that_of_the_committed_config(card):
    path = starter_configs()[CONFIGS[card["model"]]]
    config = load_config(path, [f"model.placement={card['placement']}"])
    # Read again, as keys that are newer than the card have their defaults.
    trained, wanted = (
        one.model_dump(exclude={"compare", "tune"})
        for one in (validate(card["config"], "card"), config)
    )
    assert trained == wanted


@by_card
def test_build_gives_the_trained_model_uncompiled_with_logits_and_its_own_epsilon(card):
    model = build(card["model"], card["placement"], weights=card["weights"])
    assert not model.compiled
    assert model.input_shape[1:] == tuple(card["data"]["input_shape"])
    assert model.count_params() == card["parameters"]
    normalizations = [x for x in model.layers if isinstance(x, bnzoo.layers.BatchNormalization)]
    assert bool(normalizations) == (card["placement"] == "before")
    for layer in normalizations:
        assert layer.epsilon == card["config"]["model"]["batch_norm"]["epsilon"]
        assert not np.allclose(layer.moving_mean, 0)


@by_card
def test_what_is_given_as_it_was_trained_is_accepted(card):
    everything = card_parameters(card).model_dump()
    name, placement = everything.pop("name"), everything.pop("placement")
    model = build(name, placement, weights=card["weights"], **everything)
    default = build(name, placement, weights=card["weights"])
    for one, other in zip(model.get_weights(), default.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_weights_a_model_is_random_as_before():
    first, second = (build("three_conv", weights=None) for _ in range(2))
    assert not np.array_equal(first.get_weights()[0], second.get_weights()[0])
    assert first.get_layer("bn_1").epsilon == 1e-3


@pytest.mark.parametrize(
    ("name", "weights", "parameters", "words"),
    [
        ("three_conv", "devanagari", {}, ["'devanagari'", "Did you mean 'devanagari_digits'?"]),
        ("three_conv", "mnist", {}, ["'mnist'", "'devanagari_digits' of three_conv"]),
        ("lenet", "cifar10", {}, ["lenet", "'cifar10'", "There are 'mnist' of dense"]),
        ("dense", True, {}, ["got True", "'mnist' of dense"]),
        ("dense", "mnist", {"placement": "after"}, ["'before' or 'none'", "got 'after'"]),
        ("dense", "mnist", {"units": [32]}, ["units (64,), got (32,)", "Leave out"]),
        ("dense", "mnist", {"input_shape": (784,)}, ["input_shape (28, 28, 1), got (784,)"]),
        ("three_conv", "devanagari_digits", {"filters": [8, 8, 8]}, ["filters (16, 16, 16)"]),
        (
            "three_conv",
            "devanagari_digits",
            {"classes": 46, "batch_norm": {"epsilon": 1e-3}},
            ["classes 10, got 46", "batch_norm.epsilon 1e-05, got 0.001"],
        ),
        ("dense", "mnist", {"activation": "tanh"}, ["activation 'relu', got 'tanh'"]),
        ("dense", "mnist", {"unit": [64]}, ["unknown", "'unit'"]),
    ],
)
def test_wrong_weights_say_in_a_line_what_differs_and_what_there_is(
    name, weights, parameters, words
):
    with pytest.raises(InputError) as error:
        build(name, weights=weights, **parameters)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_config_has_no_key_weights():
    with pytest.raises(InputError, match="weights"):
        validate(
            {"data": {"name": "mnist"}, "model": {"name": "dense", "weights": "mnist"}}, "mine.yaml"
        )


ON_JAX = """
import sys

sys.modules["tensorflow"] = None  # any import of TensorFlow now fails

import keras
import numpy as np

from bnzoo.models import build

assert keras.backend.backend() == "jax"
for name, weights, placement in {models}:
    model = build(name, placement, weights=weights)
    x = np.random.default_rng(0).random((16, *model.input_shape[1:]), "float32")
    np.save(f"{folder}/{{name}}-{{placement}}.npy", model(x))
"""


def test_on_jax_without_tensorflow_they_load_and_answer_alike(tmp_path):
    pytest.importorskip("jax")
    run_on_jax(ON_JAX.format(models=MODELS, folder=tmp_path))
    for name, weights, placement in MODELS:
        model = build(name, placement, weights=weights)
        x = np.random.default_rng(0).random((16, *model.input_shape[1:]), "float32")
        # Sums of up to 4,096 float32 products, in another order.
        expected = keras.ops.convert_to_numpy(model(x))
        found = np.load(tmp_path / f"{name}-{placement}.npy")
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_list_of_models_shows_accuracies_with_and_without_and_the_weights(call):
    lines = call("models")[1].splitlines()
    for row in measured_accuracies():
        found = [f"{100 * row['test_accuracy'][place]['mean']:.1f} ±" for place in PLACEMENTS]
        (line,) = (x for x in lines if x.startswith(f"{row['model']} ") and found[0] in x)
        assert all(words in line for words in (row["data"], *found))
        assert ("before and none" in line) == ((row["model"], row["data"], "none") in MODELS)


def test_the_listed_accuracies_are_those_of_the_recorded_studies():
    assert measured_accuracies() == make_results.measured(), "run scripts/make_results.py"
    assert len(measured_accuracies()) == len(make_results.studies())
