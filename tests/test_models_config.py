from typing import get_args

import keras
import pytest
from pydantic import TypeAdapter

from bnzoo.config import apply_overrides, validate
from bnzoo.config.models import (
    MODEL_NAMES,
    MODEL_SCHEMAS,
    Activation,
    Model,
    model_parameters,
)
from bnzoo.errors import InputError


def problem(name, **parameters) -> str:
    with pytest.raises(InputError) as error:
        model_parameters(name, **parameters)
    return str(error.value)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_schema_says_what_it_is_and_where_it_comes_from(name):
    schema = MODEL_SCHEMAS[name]
    assert model_parameters(name).name == name
    assert schema.headline()
    assert "Source:" in schema.__doc__


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_dumped_parameters_are_read_back(name):
    adapter = TypeAdapter(Model)
    parameters = model_parameters(name, placement="after", batch_norm={"epsilon": 1e-5})
    dumped = adapter.dump_python(parameters, mode="json")
    assert next(iter(dumped)) == "name"
    assert adapter.validate_python(dumped) == parameters


def test_every_activation_is_known_to_keras():
    for name in get_args(Activation):
        assert callable(keras.activations.get(name))


@pytest.mark.parametrize("value", [0, -3, True, "3", 2.5, None])
def test_a_size_is_a_positive_integer(value):
    text = problem("lenet", kernel_size=value)
    assert text.startswith("lenet: kernel_size: expected a")
    assert f", got {value!r}." in text


@pytest.mark.parametrize("value", [[], [8, 0], [True], "8", 8, None, ["8"]])
def test_units_are_a_list_of_positive_integers(value):
    assert problem("dense", units=value) == (
        f"dense: units: expected a list of positive integers, got {value!r}. "
        "Each entry is the number of units of one hidden layer."
    )


def test_a_network_of_three_convolutions_has_three():
    text = problem("three_conv", filters=[8, 8])
    assert "expected a list of three positive integers, got [8, 8]" in text


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), "0.9", True])
def test_momentum_is_a_share(value):
    text = problem("dense", batch_norm={"momentum": value})
    assert text.startswith("dense: batch_norm.momentum: expected a")
    assert f", got {value!r}." in text


@pytest.mark.parametrize("value", [0, 1])
def test_momentum_may_be_an_end_of_its_range(value):
    assert model_parameters("dense", batch_norm={"momentum": value}).batch_norm.momentum == value


def test_renorm_limits_in_the_wrong_order_are_refused():
    text = problem("dense", batch_norm={"renorm_clipping": {"rmin": 3, "rmax": 1}})
    assert "expected rmin <= rmax, got 3.0 and 1.0" in text


def test_renorm_and_unbiased_moving_variance_exclude_each_other():
    text = problem("dense", batch_norm={"renorm": True, "unbiased_moving_variance": True})
    assert "at most one of renorm and unbiased_moving_variance" in text


def test_all_problems_are_reported_one_per_line():
    text = problem("lenet", filters=[0], classes=-1, use_bias="yes", colour=1)
    assert len(text.splitlines()) == 4
    assert all(line.startswith("lenet: ") for line in text.splitlines())


def test_sizes_left_open_are_the_published_ones():
    resolved = model_parameters("lenet").resolved()
    assert (resolved.input_shape, resolved.classes) == ((32, 32, 3), 10)


def test_sizes_left_open_are_the_data_s_when_there_is_data():
    resolved = model_parameters("lenet").resolved(input_shape=(28, 28, 1), classes=46)
    assert (resolved.input_shape, resolved.classes) == ((28, 28, 1), 46)
    assert resolved.resolved() == resolved


def test_conv1d_becomes_a_classifier_with_data():
    bare = model_parameters("conv1d").resolved()
    assert (bare.classes, bare.activation) == (None, "linear")
    classifier = model_parameters("conv1d").resolved((None, 28), 10)
    assert (classifier.input_shape, classifier.classes) == ((None, 28), 10)
    assert classifier.activation == "relu"


def test_model_of_any_length_takes_every_length_and_a_fixed_one_only_its_own():
    free = model_parameters("conv1d", input_shape=(None, 4))
    assert free.resolved((9, 4), 2).input_shape == (None, 4)
    fixed = model_parameters("conv1d", input_shape=(9, 4))
    with pytest.raises(InputError, match="None, 4"):
        fixed.resolved((None, 4), 2)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"input_shape": (20, 20, 1)}, ["(28, 28, 1)", "(20, 20, 1)"]),
        ({"classes": 9}, ["classes", "10", "9"]),
        ({"kernel_size": 12}, ["[28, 28, 1]", "at least"]),
    ],
)
def test_parameters_that_do_not_fit_the_data_are_refused(parameters, words):
    with pytest.raises(InputError) as error:
        model_parameters("lenet", **parameters).resolved((28, 28, 1), 10)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("value", [0, -1, 2.5, "8", True])
def test_groups_are_a_positive_whole_number(value):
    assert "group_norm: expected a whole number" in problem("dense", group_norm=value)


def test_group_normalization_of_padded_sequences_is_refused():
    bare = model_parameters("conv1d", group_norm=8)
    assert bare.resolved().group_norm == 8
    with pytest.raises(InputError, match=r"group_norm: .*padded steps, got 8\. Leave it out"):
        bare.resolved((9, 4), 2)
    tree = {"data": {"name": "digits", "view": "rows"}, "model": {"name": "conv1d"}}
    with pytest.raises(InputError, match=r"model: conv1d: group_norm"):
        validate(apply_overrides(tree, [("model.group_norm", 8)]), "test")
