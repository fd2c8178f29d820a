"""Validation examples are drawn class by class, by the seed alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnzoo.data.randomness import stratified_split


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
