"""The order of epoch k is a function of the seed and k, whatever happened before."""

import doctest
import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from data_files import as_multiset, collect

import bnzoo.data
from bnzoo.errors import InputError


def labels_of(splits, epochs):
    return [collect(splits.train)[1].tolist() for _ in range(epochs)]


def inputs_of(splits, epochs):
    return [collect(splits.train)[0] for _ in range(epochs)]


def test_examples_of_the_docstrings_run():
    assert doctest.testmod(bnzoo.data) == (0, 3)


def test_digits_are_as_documented():
    splits = bnzoo.data.load("digits")
    assert splits.input_shape == (8, 8, 1)
    assert splits.num_classes == 10
    assert splits.class_names == tuple("0123456789")
    assert splits.num_train + splits.num_validation + splits.num_test == 1797
    assert splits.skipped == ()
    x, y = collect(splits.test)
    assert (x.dtype, y.dtype) == (np.float32, np.int32)
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert len(x) == splits.num_test


def test_test_split_of_digits_does_not_depend_on_the_seed():
    first, second = (collect(bnzoo.data.load("digits", seed=seed).test) for seed in (0, 1))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_every_epoch_is_a_permutation_of_the_same_examples():
    splits = bnzoo.data.load("digits")
    epochs = [collect(splits.train) for _ in range(3)]
    assert as_multiset(*epochs[0]) == as_multiset(*epochs[1]) == as_multiset(*epochs[2])
    orders = [labels.tolist() for _, labels in epochs]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_training_and_validation_do_not_overlap():
    splits = bnzoo.data.load("digits", validation=0.2)
    both = [
        np.concatenate(parts)
        for parts in zip(collect(splits.train), collect(splits.validation), strict=True)
    ]
    everything = collect(bnzoo.data.load("digits", validation="none").train)
    assert as_multiset(*both) == as_multiset(*everything)


def test_validation_set_is_fixed_by_the_seed():
    first = collect(bnzoo.data.load("digits", seed=3).validation)[0]
    np.testing.assert_array_equal(first, collect(bnzoo.data.load("digits", seed=3).validation)[0])
    other = collect(bnzoo.data.load("digits", seed=4).validation)[0]
    assert not np.array_equal(first, other)


def test_equal_seeds_give_equal_batches_whatever_the_global_seed():
    first = inputs_of(bnzoo.data.load("digits", seed=5, augment="flip_crop"), 2)
    keras.utils.set_random_seed(99)
    second = inputs_of(bnzoo.data.load("digits", seed=5, augment="flip_crop"), 2)
    np.testing.assert_array_equal(first, second)


def test_different_seeds_give_different_orders():
    assert labels_of(bnzoo.data.load("digits", seed=0), 1) != labels_of(
        bnzoo.data.load("digits", seed=1), 1
    )


def test_resumed_epochs_are_those_of_an_undisturbed_run():
    undisturbed = inputs_of(bnzoo.data.load("digits", augment="flip_crop"), 4)
    resumed = bnzoo.data.load("digits", augment="flip_crop")
    next(iter(resumed.train))  # an epoch that was broken off must leave no trace
    resumed.begin_epoch(2)
    np.testing.assert_array_equal(inputs_of(resumed, 2), undisturbed[2:])


def test_epoch_is_read_at_the_first_batch_not_at_iter():
    splits = bnzoo.data.load("digits")
    undisturbed = labels_of(splits, 2)
    splits.begin_epoch(0)
    abandoned = iter(splits.train)
    del abandoned
    assert labels_of(splits, 2) == undisturbed


def test_two_splits_count_their_own_epochs():
    first, second = bnzoo.data.load("digits"), bnzoo.data.load("digits")
    mixed = [labels_of(splits, 1)[0] for splits in (first, second, first, second)]
    assert mixed[0] == mixed[1]
    assert mixed[2] == mixed[3]
    assert mixed[0] != mixed[2]


def test_validation_and_test_keep_their_order():
    splits = bnzoo.data.load("digits")
    for dataset in (splits.validation, splits.test):
        np.testing.assert_array_equal(collect(dataset)[1], collect(dataset)[1])


def test_validation_test_is_the_test_data():
    splits = bnzoo.data.load("digits", validation="test")
    assert splits.num_validation == splits.num_test
    np.testing.assert_array_equal(collect(splits.validation)[0], collect(splits.test)[0])


def test_validation_none_is_none():
    splits = bnzoo.data.load("digits", validation="none")
    assert splits.validation is None
    assert splits.num_validation == 0
    assert splits.num_train == len(collect(splits.train)[1])


def test_last_batch_is_kept_and_the_length_is_known():
    splits = bnzoo.data.load("digits", batch_size=100)
    sizes = [len(y) for _, y in splits.train]
    assert sizes == [100] * (splits.num_train // 100) + [splits.num_train % 100]
    assert len(splits.train) == len(sizes)


def linear_model(splits):
    model = keras.Sequential(
        [keras.Input(splits.input_shape), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


class BeginEpoch(keras.callbacks.Callback):
    def __init__(self, splits):
        super().__init__()
        self.splits = splits

    def on_epoch_begin(self, epoch, logs=None):
        self.splits.begin_epoch(epoch)


def fit(model, splits, epochs, initial_epoch=0):
    history = model.fit(
        splits.train,
        validation_data=splits.validation,
        epochs=epochs,
        initial_epoch=initial_epoch,
        verbose=0,
        shuffle=False,
        callbacks=[BeginEpoch(splits)],
    )
    return history.history["loss"]


def test_fit_learns_and_presents_one_epoch_after_the_other():
    splits = bnzoo.data.load("digits")
    model = linear_model(splits)
    model.fit(splits.train, validation_data=splits.validation, epochs=3, verbose=0, shuffle=False)
    assert model.evaluate(splits.test, verbose=0)[1] > 0.5
    splits_of_three = bnzoo.data.load("digits")
    assert labels_of(splits_of_three, 4)[3] == labels_of(splits, 1)[0]


def test_resumed_fit_has_the_losses_of_an_undisturbed_one():
    splits = bnzoo.data.load("digits", augment="flip_crop")
    model = linear_model(splits)
    start = model.get_weights()
    undisturbed = fit(model, splits, 4)
    first, second = (bnzoo.data.load("digits", augment="flip_crop") for _ in range(2))
    model.set_weights(start)
    # The optimizer is plain SGD: its only state is a step counter that changes nothing.
    losses = fit(model, first, 2) + fit(model, second, 4, initial_epoch=2)
    np.testing.assert_array_equal(losses, undisturbed)


def test_splits_load_inside_a_distribution_strategy():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        splits = bnzoo.data.load("digits")
    assert labels_of(splits, 2) == labels_of(bnzoo.data.load("digits"), 2)


def test_epochs_do_not_pile_up_in_memory():
    splits = bnzoo.data.load("digits", batch_size=256)
    labels_of(splits, 2)
    gc.collect()
    before = len(gc.get_objects())
    labels_of(splits, 10)
    gc.collect()
    assert len(gc.get_objects()) - before < 300  # a leaked graph per epoch would be thousands


def test_batch_larger_than_the_training_data_is_refused():
    with pytest.raises(InputError, match=r"batch_size: 5000 .* 1294 training examples"):
        bnzoo.data.load("digits", batch_size=5000)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1"])
def test_seed_out_of_range_is_refused(seed):
    with pytest.raises(InputError, match=f"got {seed!r}"):
        bnzoo.data.load("digits", seed=seed)


def test_several_bad_parameters_are_reported_together():
    with pytest.raises(InputError) as caught:
        bnzoo.data.load("digits", batch_size=0, batchsize=3, view="columns")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "data: batch_size: expected a whole number above 0, got 0." in lines[0]
    assert "'columns'" in lines[1]
    assert "'batchsize'. Did you mean 'batch_size'" in lines[2]


def test_unknown_data_set_names_the_near_one():
    with pytest.raises(InputError, match=r"got 'cifar'\. Did you mean 'cifar10'"):
        bnzoo.data.load("cifar")
