"""The `data:` section: what it accepts, and what it says about the rest."""

import subprocess
import sys

import pytest

from bnzoo.config.data import DATASETS, Data, split_name
from bnzoo.config.problems import check
from bnzoo.errors import InputError


def problem(**values) -> str:
    with pytest.raises(InputError) as caught:
        check(Data, {"name": "digits", **values}, "data")
    return str(caught.value)


def test_defaults_are_those_of_the_contract():
    data = Data(name="digits")
    assert (data.batch_size, data.validation, data.augment) == (32, 0.1, "none")
    assert (data.image_size, data.color_mode, data.view) == (None, "auto", "image")
    assert data.skip_unreadable is False
    assert data.min_length is None


@pytest.mark.parametrize("validation", [0.5, "test", "none"])
def test_validation_keeps_what_is_valid(validation):
    assert Data(name="digits", validation=validation).validation == validation


def test_null_means_none():
    data = Data(name="digits", validation=None, augment=None)
    assert (data.validation, data.augment) == ("none", "none")


def test_a_list_becomes_the_image_size():
    assert Data(name="digits", image_size=[16, 12]).image_size == (16, 12)


@pytest.mark.parametrize("name", ["tfds:emnist/letters", "tfds:mnist:3.0.1", "folder:a b", "npz:x"])
def test_prefixed_names_are_accepted(name):
    assert Data(name=name).name == name


def test_split_name_keeps_colons_of_a_path():
    assert split_name("folder:C:/photos") == ("folder", "C:/photos")
    assert split_name("mnist") == ("mnist", "")


def test_unknown_name_suggests_the_near_one():
    message = problem(name="mnits")
    assert "got 'mnits'" in message
    assert "'mnist'" in message
    assert "folder:<path>" in message


def test_prefix_without_a_path_is_refused():
    assert "expected a path after the colon, got 'folder:'" in problem(name="folder:")


def test_path_as_tfds_name_is_refused():
    assert "got 'tfds:../secret'" in problem(name="tfds:../secret")


@pytest.mark.parametrize("value", [0, -3, 2.5, "8", True])
def test_batch_size_must_be_a_positive_whole_number(value):
    text = problem(batch_size=value)
    assert text.startswith("data: batch_size: expected a")
    assert f", got {value!r}." in text


@pytest.mark.parametrize("value", [0, 0.0, 1, 1.0, -0.1, 2, "half", True, float("nan")])
def test_validation_must_be_a_fraction_or_a_word(value):
    assert f"between 0 and 1, test or none, got {value!r}" in problem(validation=value)


@pytest.mark.parametrize("value", [32, [32], [0, 8], [8, 8, 3], ["8", 8], "8x8"])
def test_image_size_must_be_a_pair(value):
    assert f"expected [height, width] in pixels, both above 0, or null, got {value!r}" in problem(
        image_size=value
    )


def test_min_length_needs_rows():
    assert "expected view: rows beside it, got view: image" in problem(min_length=3)
    assert "got 0" in problem(min_length=0, view="rows")
    assert Data(name="digits", view="rows", min_length=3).min_length == 3


def test_unknown_key_is_refused():
    assert "batchsize" in problem(batchsize=3)


def test_every_data_set_has_one_line():
    assert all(text and "\n" not in text for text in DATASETS.values())


def test_listing_data_sets_loads_no_tensorflow():
    code = (
        "import sys, bnzoo.data as data; assert 'mnist' in data.list_datasets();"
        "assert not {'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("key", ["train_size", "test_size"])
def test_sizes_are_positive_whole_numbers_of_a_named_data_set(key):
    for value in (0, -1, 2.5, "8", True):
        assert f"data: {key}: expected a whole number" in problem(**{key: value})
    assert f"{key}: expected only with a data set by its name, got 8" in problem(
        name="my_data.py:load", **{key: 8}
    )
    assert getattr(Data(name="digits", **{key: 8}), key) == 8
