"""Images as rows of random length, and as one vector."""

import numpy as np
import pytest
from data_files import collect, write_npz

import bnzoo.data
import bnzoo.models
from bnzoo.config.data import PADDING_VALUE
from bnzoo.config.models import model_parameters
from bnzoo.errors import InputError


def lengths_of(x):
    """The steps of each sequence before the padding, which must be all of it or none."""
    is_padding = (x == PADDING_VALUE).all(axis=2)
    lengths = (~is_padding).sum(axis=1)
    assert (is_padding == (np.arange(x.shape[1]) >= lengths[:, None])).all()
    return lengths


def test_rows_are_the_pixel_rows():
    images = collect(bnzoo.data.load("digits", image_size=[8, 6], color_mode="rgb").test)[0]
    splits = bnzoo.data.load("digits", image_size=[8, 6], color_mode="rgb", view="rows")
    assert splits.input_shape == (8, 18)
    np.testing.assert_array_equal(collect(splits.test)[0], images.reshape(-1, 8, 18))


def test_flat_is_one_vector():
    splits = bnzoo.data.load("digits", view="flat")
    assert splits.input_shape == (64,)
    images = collect(bnzoo.data.load("digits").test)[0]
    np.testing.assert_array_equal(collect(splits.test)[0], images.reshape(-1, 64))


def test_lengths_are_random_and_the_rest_is_padding():
    full = bnzoo.data.load("digits", view="rows")
    cut = bnzoo.data.load("digits", view="rows", min_length=3)
    for split in ("train", "validation", "test"):
        x, short = collect(getattr(full, split))[0], collect(getattr(cut, split))[0]
        lengths = lengths_of(short)
        assert set(lengths) == set(range(3, 9))
        for whole, part, length in zip(x, short, lengths, strict=True):
            np.testing.assert_array_equal(part[:length], whole[:length])


def test_lengths_of_training_change_by_epoch_and_the_others_do_not():
    splits = bnzoo.data.load("digits", view="rows", min_length=1, validation=0.3)
    for dataset in (splits.validation, splits.test):
        np.testing.assert_array_equal(collect(dataset)[0], collect(dataset)[0])
    histogram = [np.bincount(lengths_of(collect(splits.train)[0])).tolist() for _ in range(2)]
    assert histogram[0] != histogram[1]


def test_lengths_depend_on_the_seed():
    first, second = (
        lengths_of(collect(bnzoo.data.load("digits", view="rows", min_length=1, seed=seed).test)[0])
        for seed in (0, 1)
    )
    assert not np.array_equal(first, second)


def test_min_length_of_all_steps_pads_nothing():
    splits = bnzoo.data.load("digits", view="rows", min_length=8)
    assert (collect(splits.test)[0] >= 0).all()


def test_min_length_above_the_steps_is_refused():
    with pytest.raises(InputError, match=r"min_length: 9 .* have 8 steps"):
        bnzoo.data.load("digits", view="rows", min_length=9)


def test_rows_of_vectors_are_refused(tmp_path):
    features = np.zeros((20, 7), np.float32)
    path = write_npz(tmp_path / "a.npz", x_train=features, x_test=features[:8])
    with pytest.raises(InputError, match=r"view: rows .* vectors of shape \(7,\)"):
        bnzoo.data.load(f"npz:{path}", view="rows", batch_size=4)


def test_sequences_of_features_can_be_shortened(tmp_path):
    features = np.random.default_rng(0).normal(size=(20, 9, 2)).astype(np.float32)
    path = write_npz(tmp_path / "a.npz", x_train=features, x_test=features[:8])
    splits = bnzoo.data.load(f"npz:{path}", view="rows", min_length=2, batch_size=4)
    assert splits.input_shape == (9, 2)
    assert set(lengths_of(collect(splits.train)[0])) <= set(range(2, 10))


@pytest.mark.parametrize(
    ("model", "view"),
    [
        ("three_conv", "image"),
        ("one_conv", "image"),
        ("lenet", "image"),
        ("dense", "image"),
        ("dense", "flat"),
        ("conv1d", "rows"),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_model_takes_arrays_without_a_channel_axis(tmp_path, model, view, dtype):
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(dtype)
    path = write_npz(tmp_path / "a.npz", x_train=images, x_test=images[:8])
    splits = bnzoo.data.load(f"npz:{path}", view=view, batch_size=4)
    built = bnzoo.models.build_model(
        model_parameters(model).resolved(splits.input_shape, splits.num_classes)
    )
    assert built(next(iter(splits.test))[0]).shape == (4, 4)


def test_a_model_of_sequences_says_which_view_it_needs(tmp_path):
    features = np.random.default_rng(0).normal(size=(20, 9, 2))
    path = write_npz(tmp_path / "a.npz", x_train=features, x_test=features[:8])
    splits = bnzoo.data.load(f"npz:{path}", batch_size=4)
    with pytest.raises(InputError, match=r"data\.view.*rows"):
        model_parameters("conv1d").resolved(splits.input_shape, splits.num_classes)


def test_description_names_the_layout():
    description = bnzoo.data.load("digits", view="rows", image_size=[4, 4]).preprocessing
    assert description.to_dict() == {
        "layout": "rows",
        "image_size": [4, 4],
        "channels": 1,
        "scale": 1 / 255,
    }
