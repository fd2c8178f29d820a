"""Mirroring and shifting, against a plain NumPy loop."""

import numpy as np
import pytest
import tensorflow as tf
from data_files import as_multiset, collect, write_npz

import bnzoo.data
from bnzoo.data.randomness import Purpose, draw_flip_crop, flip_crop, stream_key
from bnzoo.errors import InputError


def flip_crop_reference(images, draws):
    results = []
    for image, (flip, top, left) in zip(images, draws, strict=True):
        image = image[:, ::-1] if flip else image
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        results.append(padded[top : top + image.shape[0], left : left + image.shape[1]])
    return np.stack(results)


@pytest.mark.parametrize("shape", [(8, 8, 3), (5, 7, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_flip_crop_equals_the_loop(shape, dtype):
    images = np.random.default_rng(0).integers(1, 256, (64, *shape)).astype(dtype)
    draws = draw_flip_crop(stream_key(0, 0, Purpose.AUGMENT), 64)
    result = flip_crop(tf.constant(images), draws)
    np.testing.assert_array_equal(result, flip_crop_reference(images, draws.numpy()))


def test_draws_cover_every_flip_and_shift_evenly():
    draws = draw_flip_crop(stream_key(0, 0, Purpose.AUGMENT), 9000).numpy()
    # 9 shifts: 1,000 each with standard deviation 30; 5 of them is beyond chance.
    assert abs(draws[:, 0].mean() - 0.5) < 5 * 0.5 / 9000**0.5
    for column in (1, 2):
        counts = np.bincount(draws[:, column], minlength=9)
        assert len(counts) == 9
        assert np.abs(counts - 1000).max() < 150
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 5 / 9000**0.5


def test_draws_are_not_tied_to_the_order():
    order = tf.random.experimental.stateless_shuffle(
        tf.range(9000), seed=stream_key(0, 0, Purpose.ORDER)
    ).numpy()
    position = np.argsort(order)
    draws = draw_flip_crop(stream_key(0, 0, Purpose.AUGMENT), 9000).numpy()
    for column in draws.T:
        assert abs(np.corrcoef(position, column)[0, 1]) < 5 / 9000**0.5


def test_only_training_images_are_augmented_and_differently_each_epoch():
    plain = bnzoo.data.load("digits")
    augmented = bnzoo.data.load("digits", augment="flip_crop")
    for split in ("validation", "test"):
        np.testing.assert_array_equal(
            collect(getattr(plain, split))[0], collect(getattr(augmented, split))[0]
        )
    first, second = collect(augmented.train), collect(augmented.train)
    assert as_multiset(*first) != as_multiset(*collect(plain.train))
    assert as_multiset(*first) != as_multiset(*second)
    plain.begin_epoch(0)
    np.testing.assert_array_equal(first[1], collect(plain.train)[1])  # the labels stay in place


def test_augmenting_features_is_refused(tmp_path):
    features = np.zeros((20, 7), np.float32)
    path = write_npz(tmp_path / "a.npz", x_train=features, x_test=features[:8])
    with pytest.raises(InputError, match=r"augment: flip_crop .* features of shape \(7,\)"):
        bnzoo.data.load(f"npz:{path}", augment="flip_crop", batch_size=4)
