"""Data of a function of the user's own: every form that it may return, and what is refused."""

import keras
import numpy as np
import pytest
from own_functions import DATA, line_of, write

from bnzoo import data
from bnzoo.errors import InputError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path))


def load(function, **params):
    return data.load(f"my_data.py:{function}", **params)


def examples(batches):
    """Return all x and y of a split, one after the other."""
    found = list(data.numpy_batches(batches))
    return [np.concatenate([batch[part] for batch in found]) for part in (0, 1)]


def test_one_x_and_y_is_split_as_the_config_says():
    splits = load("table", validation=0.25, test=0.5, batch_size=16, params={"n": 80})
    assert (splits.num_train, splits.num_validation, splits.num_test) == (30, 10, 40)
    parts = [examples(part)[0] for part in (splits.train, splits.validation, splits.test)]
    together = np.concatenate(parts)
    assert together.shape == (80, 4)
    assert together.dtype == np.float32
    assert len(np.unique(together[:, 0])) == 80
    assert splits.input_shape == (4,)
    assert splits.num_classes is None
    assert splits.class_names == ()
    assert next(iter(splits.train))[0].shape == (16, 4)


def test_a_fifth_is_held_back_for_the_test_unless_it_is_said():
    assert load("table").num_test == 24


def test_the_test_split_is_the_same_for_every_seed_and_the_validation_split_is_not():
    one, other = load("table", seed=1), load("table", seed=2)
    assert np.array_equal(examples(one.test)[0], examples(other.test)[0])
    assert not np.array_equal(examples(one.validation)[0], examples(other.validation)[0])


def test_each_epoch_has_its_own_order_and_can_be_had_again():
    splits = load("table")
    first, second = examples(splits.train)[0], examples(splits.train)[0]
    splits.begin_epoch(0)
    assert np.array_equal(first, examples(splits.train)[0])
    assert not np.array_equal(first, second)
    assert np.array_equal(np.sort(first[:, 0]), np.sort(second[:, 0]))


def test_whole_numbers_are_classes_and_are_held_back_class_by_class():
    splits = load("integers", test=0.2, validation="none")
    assert splits.num_classes == 2
    assert splits.class_names == ("0", "1")
    shares = [examples(part)[1].mean() for part in (splits.train, splits.test)]
    assert shares[0] == pytest.approx(shares[1], abs=0.05)


def test_the_parts_of_a_dict_are_taken_as_they_are():
    splits = load("parts", params={"named": True})
    assert (splits.num_train, splits.num_validation, splits.num_test) == (60, 20, 10)
    assert splits.class_names == ("low", "high")


def test_without_a_test_the_validation_stands_in_for_it_and_is_not_counted():
    splits = load("sequences", batch_size=16)
    assert (splits.num_train, splits.num_validation, splits.num_test) == (50, 20, 0)
    assert splits.test is splits.validation


def test_arrays_may_be_nested():
    splits = load("nested", batch_size=8)
    assert splits.input_shape == {"left": (2,), "right": (2,)}
    x, y = next(iter(splits.train))
    assert x["left"].shape == (8, 2)
    assert y["b"].shape == (8, 1)
    np.testing.assert_allclose(y["a"], -y["b"])


def test_a_data_set_of_tensorflow_is_taken_as_it_is():
    splits = load("datasets", batch_size=16)
    assert (splits.num_train, splits.num_validation, splits.num_test) == (50, 0, 20)
    assert splits.num_classes == 2
    assert splits.steps_per_epoch == 4
    assert splits.validation is None


def test_a_data_set_of_keras_is_taken_as_it_is():
    splits = load("sequences", batch_size=16)
    assert isinstance(splits.train, keras.utils.PyDataset)
    assert splits.steps_per_epoch == 4
    assert splits.input_shape == (4,)
    assert splits.num_classes is None


def test_what_a_data_set_raises_is_told_with_its_line():
    with pytest.raises(InputError, match=r"my_data\.py, line \d+: .*no such column"):
        load("failing", batch_size=8)


def test_sequences_of_labels_are_classes_without_names():
    splits = load("tokens")
    assert splits.num_classes == 3
    assert splits.class_names == ()
    assert examples(splits.train)[0].dtype.kind == "i"


def test_other_values_have_another_fingerprint():
    same = load("table"), load("table", seed=3)
    assert same[0].fingerprint != load("table", params={"columns": 5}).fingerprint
    assert load("table").fingerprint == same[0].fingerprint


def test_validation_and_test_can_be_left_out():
    splits = load("table", validation="none", test="none")
    assert (splits.num_train, splits.num_validation, splits.num_test) == (120, 0, 0)
    assert splits.test is splits.train


def test_validation_may_be_the_test():
    splits = load("parts", validation="test")
    assert splits.num_validation == splits.num_test == 10


RETURNED = {
    "nothing": "my_data.py:nothing: train: expected a function that returns a dict of train",
    "empty": "my_data.py:empty: train: expected at least one example, got none.",
    "empty_dataset": "my_data.py:empty_dataset: train: expected at least one example, got none.",
    "uneven": "my_data.py:uneven: train: expected as many y as x, got arrays of lengths 4, 3.",
    "unknown_part": "got a dict of train, tests.",
    "other_test": "expected examples of one shape, got (4,) in train and (3,) in test.",
    "objects": "expected arrays of numbers or texts with one row for each example, got object",
    "endless": "my_data.py:endless: train: expected a data set that ends, got one that repeats.",
    "without_batches": "got single examples. Add .batch(batch_size).",
}


@pytest.mark.parametrize("function", RETURNED)
def test_what_is_no_data_is_told_in_one_line(function):
    with pytest.raises(InputError) as error:
        load(function)
    assert RETURNED[function] in str(error.value)
    assert "\n" not in str(error.value)


def test_an_error_names_the_users_file_and_line():
    with pytest.raises(InputError) as error:
        load("fails")
    line = line_of(DATA, "the disk is gone")
    assert str(error.value) == f"my_data.py, line {line}: OSError: the disk is gone."


def test_a_share_that_leaves_nothing_is_refused():
    with pytest.raises(InputError, match=r"data.test: 0.01 of the 20 examples .* leaves 20 and 0"):
        load("table", test=0.01, params={"n": 20})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": "flip_crop"}, "augment: expected only with a data set by its name, got"),
        ({"params": {"m": 3}}, "data.params.m: expected an argument of my_data.py:table"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        load("table", **settings)


def test_named_data_takes_no_arguments():
    with pytest.raises(InputError, match="params: expected only with a function of your own"):
        data.load("digits", params={"n": 3})
