"""Examples are drawn class by class: for validation by the seed alone, for a sample by none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnzoo import data
from bnzoo.data.randomness import stratified_sample, stratified_split
from bnzoo.errors import InputError


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_split_is_a_partition_that_leaves_every_class_an_example(counts, fraction, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    kept, held = stratified_split(labels, fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert set(labels[kept]) == set(labels)
    for label, count in enumerate(counts):
        share = (labels[held] == label).sum()
        assert share <= count * fraction + 1
        assert share >= min(np.floor(count * fraction), count - 1)


def test_the_total_is_the_rounded_share():
    labels = np.arange(1000) % 7
    _, held = stratified_split(labels, 0.1, seed=0)
    assert len(held) == 100


def test_the_seed_decides_and_nothing_else():
    labels = np.random.default_rng(0).integers(0, 5, 300)
    np.random.seed(1)
    first = stratified_split(labels, 0.2, seed=7)[1]
    np.random.seed(2)
    np.testing.assert_array_equal(stratified_split(labels, 0.2, seed=7)[1], first)
    assert not np.array_equal(stratified_split(labels, 0.2, seed=8)[1], first)


@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_each_class_contributes_its_share(fraction):
    labels = np.repeat([0, 1, 2], [200, 100, 40])
    _, held = stratified_split(labels, fraction, seed=3)
    np.testing.assert_array_equal(np.bincount(labels[held]), np.array([200, 100, 40]) * fraction)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    left_out=st.sets(st.integers(0, 300), max_size=20),
    share=st.floats(0.01, 1.0),
)
def test_a_sample_has_the_asked_size_and_each_class_its_share(counts, left_out, share):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    subset = np.setdiff1d(np.arange(len(labels)), list(left_out)[: len(labels) - 1])
    count = max(1, round(len(subset) * share))
    chosen = stratified_sample(labels, subset, count)
    assert len(chosen) == len(set(chosen)) == count
    assert set(chosen) <= set(subset)
    np.testing.assert_array_equal(chosen, np.sort(chosen))
    for label in range(len(counts)):
        expected = (labels[subset] == label).sum() * count / len(subset)
        assert abs((labels[chosen] == label).sum() - expected) <= 1 + 1e-9


def test_samples_of_subsets_share_what_the_subsets_share():
    labels = np.arange(1000) % 5
    kept = [stratified_split(labels, 0.1, seed)[0] for seed in (0, 1)]
    samples = [set(stratified_sample(labels, one, 100)) for one in kept]
    assert len(samples[0] & samples[1]) > 75  # by chance it would be 11


def load(**changes):
    return data.load("digits", **{"batch_size": 16, "validation": "none"} | changes)


def pixels(batches):
    return np.concatenate([x for x, _ in data.numpy_batches(batches)])


def test_sizes_are_drawn_class_by_class_and_for_every_seed_alike():
    some = [load(train_size=100, test_size=50, seed=seed) for seed in (0, 3)]
    assert [(one.num_train, one.num_validation, one.num_test) for one in some] == [(100, 0, 50)] * 2
    for part in ("train", "test"):
        batches = [getattr(one, part) for one in some]
        counts = np.bincount(np.concatenate([y for _, y in data.numpy_batches(batches[0])]))
        assert counts.max() - counts.min() <= 1
        rows = [np.unique(pixels(one), axis=0) for one in batches]
        np.testing.assert_array_equal(*rows)
    np.testing.assert_array_equal(pixels(some[0].test), pixels(some[1].test))  # also their order
    assert not np.array_equal(pixels(some[0].train), pixels(some[1].train))


def test_the_validation_part_is_held_back_before_the_sample_is_drawn():
    whole, some = load(validation=0.2), load(validation=0.2, train_size=100)
    assert (some.num_train, some.num_validation) == (100, whole.num_validation)
    np.testing.assert_array_equal(pixels(some.validation), pixels(whole.validation))
    held = {row.tobytes() for row in pixels(some.validation)}
    assert not held & {row.tobytes() for row in pixels(some.train)}
    assert some.fingerprint == whole.fingerprint  # of the data set, whatever is used of it


def test_a_validation_on_test_is_that_of_the_sample():
    some = load(validation="test", test_size=50)
    assert (some.num_validation, some.num_test) == (50, 50)
    assert len(pixels(some.validation)) == 50


def test_all_examples_may_be_asked_for_and_no_more():
    whole = load()
    same = load(train_size=whole.num_train, test_size=whole.num_test)
    np.testing.assert_array_equal(pixels(same.test), pixels(whole.test))
    np.testing.assert_array_equal(pixels(same.train), pixels(whole.train))
    for key, count in (("train_size", whole.num_train), ("test_size", whole.num_test)):
        with pytest.raises(
            InputError, match=f"data.{key}: .*at most the {count} .*got {count + 1}"
        ):
            load(**{key: count + 1})
    with pytest.raises(InputError, match="train_size: 10"):
        load(train_size=10)  # less than a batch
