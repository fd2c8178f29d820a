"""Arrays from an npz file: what is read, and one clear error for everything that is wrong."""

import json

import numpy as np
import pytest
import serving_exports as exports
import tensorflow as tf
from data_files import arrays, collect, write_npz

import bnzoo.data
from bnzoo import config, load_model
from bnzoo.errors import InputError
from bnzoo.serving import export_source
from bnzoo.training import train

FEATURES = np.random.default_rng(0).normal(size=(20, 7))


def load(path, **params):
    return bnzoo.data.load(f"npz:{path}", **{"batch_size": 4, "validation": "none", **params})


def refused(tmp_path, match, params=None, **changes):
    with pytest.raises(InputError, match=match):
        load(write_npz(tmp_path / "a.npz", **changes), **(params or {}))


def test_images_are_scaled(tmp_path):
    splits = load(write_npz(tmp_path / "a.npz"))
    x, y = collect(splits.test)
    np.testing.assert_allclose(x, arrays()["x_test"] / 255, rtol=1e-6)
    assert y.tolist() == arrays()["y_test"].tolist()
    assert splits.class_names == ("0", "1", "2", "3")
    assert splits.preprocessing.image_size == (6, 5)


def test_images_without_a_channel_axis_are_gray(tmp_path):
    whole = arrays()
    path = write_npz(
        tmp_path / "a.npz", x_train=whole["x_train"][..., 0], x_test=whole["x_test"][..., 0]
    )
    assert load(path).input_shape == (6, 5, 1)


def float_images(**changes):
    """The images of `arrays` as floats, from 0 to 255, or changed by a function."""
    change = changes.pop("change", lambda x: x)
    whole = arrays()
    return {name: change(whole[name].astype(np.float32)) for name in ("x_train", "x_test")}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_pixels_as_floats_are_scaled_as_uint8_ones_are(tmp_path, dtype):
    params = {"validation": 0.3, "augment": "flip_crop"}
    images = load(write_npz(tmp_path / "uint8.npz"), **params)
    floats = float_images(change=lambda x: x.astype(dtype))
    splits = load(write_npz(tmp_path / "float.npz", **floats), **params)
    assert splits.preprocessing == images.preprocessing
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(
            collect(getattr(splits, split))[0], collect(getattr(images, split))[0]
        )
    assert images.reading is None
    assert splits.reading == (
        "Values: x_train has float images of shape (6, 5, 1), from 0 to 255; "
        "taken as 8-bit pixels and scaled to [0, 1]"
    )


def test_a_run_tells_how_it_took_floats_and_its_export_answers_pictures_alike(
    tmp_path, monkeypatch
):
    exports.compare_in_this_process(monkeypatch)
    tree = {
        "data": {"name": f"npz:{write_npz(tmp_path / 'a.npz', **float_images())}", "batch_size": 4},
        "model": {"name": "three_conv", "filters": [2, 2, 2]},
        "train": {"epochs": 1, "tensorboard": False},
    }
    told = []
    train(config.validate(tree, "test"), tmp_path / "run", announce=told.append)
    facts = json.loads((tmp_path / "run" / "data.json").read_text())
    assert facts["preprocessing"]["scale"] == 1 / 255
    assert "taken as 8-bit pixels and scaled to [0, 1]" in facts["reading"]
    assert facts["reading"] in "\n".join(told).splitlines()
    images = arrays()["x_test"]
    pictures = tf.constant([tf.io.encode_png(image).numpy() for image in images])
    export = export_source(tmp_path / "run", tmp_path / "served")
    answer = exports.signature(export, "serve_bytes")(image_bytes=pictures)
    expected = load_model(tmp_path / "run").predict(images / 255, verbose=0)
    np.testing.assert_allclose(answer["logits"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x / 255,
        lambda x: (x - x.mean()) / x.std(),
        lambda x: x - 128,
        lambda x: np.round(x / 16),
        lambda x: x * 7,
    ],
    ids=["unit interval", "standardized", "centered", "4 bits", "high dynamic range"],
)
def test_float_images_of_another_range_are_kept_and_said_to_be(tmp_path, change):
    floats = float_images(change=change)
    splits = load(write_npz(tmp_path / "a.npz", **floats))
    np.testing.assert_array_equal(collect(splits.test)[0], floats["x_test"])
    assert splits.preprocessing.scale == 1
    assert "kept as they are" in splits.reading
    assert ("save pixels as uint8" in splits.reading) == (np.abs(floats["x_train"]).max() > 10)


def test_float_features_from_0_to_255_are_kept(tmp_path):
    floats = {name: x.reshape(len(x), -1) for name, x in float_images().items()}
    splits = load(write_npz(tmp_path / "a.npz", **floats))
    np.testing.assert_array_equal(collect(splits.test)[0], floats["x_test"])
    assert splits.reading.endswith("kept as they are; scale them, or save pixels as uint8")


def test_the_values_of_x_train_decide_for_all_splits(tmp_path):
    dark = float_images()["x_test"] / 5
    splits = load(write_npz(tmp_path / "a.npz", **{**float_images(), "x_test": dark}))
    np.testing.assert_allclose(collect(splits.test)[0], dark / 255, rtol=1e-6)
    faint = float_images(change=lambda x: x / 2.5)
    faint["x_test"] *= 2
    splits = load(write_npz(tmp_path / "b.npz", **faint))
    np.testing.assert_array_equal(collect(splits.test)[0], faint["x_test"])


@pytest.mark.parametrize("scaled", ["x_train", "x_test"])
def test_only_one_of_the_arrays_scaled(tmp_path, scaled):
    floats = float_images()
    floats[scaled] = floats[scaled] / 255
    refused(
        tmp_path, r"x_train has values from 0 to [\d.]+ and x_test from 0 to [\d.]+; exp", **floats
    )


def test_pixels_in_one_array_and_floats_in_the_other(tmp_path):
    floats = float_images(change=lambda x: x / 255)
    refused(tmp_path, r", as uint8 and float32; expected .* both as uint8", x_test=floats["x_test"])


def test_float_arrays_without_a_channel_axis_are_gray_images_or_rows(tmp_path):
    floats = float_images(change=lambda x: x[..., 0] / 255)
    path = write_npz(tmp_path / "a.npz", **floats)
    splits = load(path, augment="flip_crop")
    assert splits.input_shape == (6, 5, 1)
    assert splits.preprocessing.layout == "image"
    np.testing.assert_array_equal(collect(splits.test)[0][..., 0], floats["x_test"])
    assert load(path, view="rows").input_shape == (6, 5)
    assert load(path, view="flat").input_shape == (30,)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_float_features_are_kept(tmp_path, dtype):
    features = FEATURES.astype(dtype)
    splits = load(write_npz(tmp_path / "a.npz", x_train=features, x_test=features[:8]))
    assert splits.input_shape == (7,)
    assert splits.preprocessing.to_dict() == {
        "layout": "features",
        "image_size": None,
        "channels": None,
        "scale": 1.0,
    }
    np.testing.assert_array_equal(collect(splits.test)[0], features[:8].astype(np.float32))


def test_class_names_are_read(tmp_path):
    names = np.array(["north", "east", "south", "west", "up"])
    splits = load(write_npz(tmp_path / "a.npz", class_names=names))
    assert splits.class_names == tuple(names)
    assert splits.num_classes == 5


def test_labels_as_a_column_are_accepted(tmp_path):
    column = arrays()["y_train"][:, None].astype(np.uint8)
    assert load(write_npz(tmp_path / "a.npz", y_train=column)).num_classes == 4


@pytest.mark.parametrize("params", [{"image_size": [9, 8]}, {"color_mode": "rgb"}])
def test_resizing_batch_by_batch_gives_the_same(tmp_path, params):
    path = write_npz(tmp_path / "a.npz")
    at_once, by_batch = load(path, **params), load(path, memory_limit=0, **params)
    assert at_once.input_shape == by_batch.input_shape
    for split in ("train", "test"):
        np.testing.assert_array_equal(
            collect(getattr(at_once, split))[0], collect(getattr(by_batch, split))[0]
        )


def test_missing_file(tmp_path):
    with pytest.raises(
        InputError, match=r"no\.npz: expected an npz file, found no such file\. Check the path"
    ):
        load(tmp_path / "no.npz")


def test_folder_instead_of_a_file(tmp_path):
    with pytest.raises(InputError, match=r"expected an npz file, found no such file"):
        load(tmp_path)


@pytest.mark.parametrize("contents", [b"", b"no zip", b"PK\x03\x04 cut short"])
def test_file_that_is_no_npz(tmp_path, contents):
    (tmp_path / "a.npz").write_bytes(contents)
    with pytest.raises(
        InputError, match=r"a\.npz cannot be read \(File is not a zip file\); expected an npz"
    ):
        load(tmp_path / "a.npz")


def test_single_array_is_no_npz(tmp_path):
    np.save(tmp_path / "a.npy", FEATURES)
    with pytest.raises(
        InputError, match=r"a\.npy cannot be read \(File is not a zip file\); expected an npz"
    ):
        load(tmp_path / "a.npy")


def test_missing_arrays_and_those_present_are_named(tmp_path):
    refused(
        tmp_path, r"holds x_train, x_test; .*missing: y_train, y_test", y_train=None, y_test=None
    )


@pytest.mark.parametrize("name", ["x_train", "class_names"])
def test_objects_are_never_unpickled(tmp_path, name):
    objects = np.array([{"a": 1}] * 20, dtype=object)
    refused(
        tmp_path,
        rf"{name} of .*a\.npz cannot be read \(Object arrays .* never unpickled",
        **{name: objects},
    )


def test_lengths_that_differ(tmp_path):
    refused(
        tmp_path,
        r"y_train is int64 of shape \(19,\); expected .* 20 examples of x_train",
        y_train=np.zeros(19, int),
    )


def test_shapes_that_differ(tmp_path):
    refused(
        tmp_path,
        r"x_train has examples of shape \(6, 5, 1\) and x_test of \(6, 6, 1\)",
        x_test=np.zeros((8, 6, 6, 1), np.uint8),
    )


def test_empty_arrays(tmp_path):
    refused(
        tmp_path,
        r"x_test is uint8 of shape \(0, 6, 5, 1\)",
        x_test=np.zeros((0, 6, 5, 1), np.uint8),
        y_test=np.zeros(0, int),
    )


def test_integers_that_are_not_uint8(tmp_path):
    refused(
        tmp_path,
        r"x_train is int64 of shape \(20, 6, 5, 1\); expected uint8",
        x_train=np.ones((20, 6, 5, 1), int),
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite(tmp_path, value):
    features = FEATURES.copy()
    features[3, 2] = value
    refused(
        tmp_path,
        r"x_train has NaN or infinite values in 1 examples, the first is example 3",
        x_train=features,
        x_test=FEATURES[:8],
    )


def test_labels_that_are_no_whole_numbers(tmp_path):
    refused(tmp_path, r"y_train is float64 of shape \(20,\)", y_train=np.zeros(20))


def test_one_hot_labels(tmp_path):
    refused(tmp_path, r"shape \(20, 4\).*argmax", y_train=np.eye(4, dtype=int)[np.arange(20) % 4])


def test_negative_label(tmp_path):
    refused(tmp_path, r"y_test has labels from -1 to -1; expected", y_test=np.full(8, -1))


def test_label_out_of_range(tmp_path):
    refused(
        tmp_path,
        r"y_test has labels from 9 to 9; .* y_train has 4 different ones",
        y_test=np.full(8, 9),
    )


def test_absurd_label(tmp_path):
    refused(
        tmp_path,
        r"y_train has labels from 4000000000 to 4000000000",
        y_train=np.full(20, 4_000_000_000),
    )


def test_labels_that_count_from_one(tmp_path):
    refused(
        tmp_path,
        r"y_train has labels from 1 to 4; expected .* counted from 0 without gaps",
        y_train=np.arange(20) % 4 + 1,
    )


def test_one_class(tmp_path):
    zeros = {"y_train": np.zeros(20, int), "y_test": np.zeros(8, int)}
    refused(tmp_path, r"y_train has labels from 0 to 0; expected two classes or more", **zeros)


def test_label_without_a_class_name(tmp_path):
    names = np.array(["a", "b", "c"])
    refused(
        tmp_path, r"y_train has labels from 0 to 3; .* class_names has 3 names", class_names=names
    )


def test_class_names_that_are_numbers(tmp_path):
    refused(tmp_path, r"class_names has \[0, 1, 2, 3\]; expected strings", class_names=np.arange(4))


def test_class_name_that_is_repeated(tmp_path):
    names = np.array(["a", "b", "c", "a"])
    refused(
        tmp_path,
        r"class_names has \['a', 'b', 'c', 'a'\]; .* a different one for each",
        class_names=names,
    )


def test_four_channels_cannot_become_gray(tmp_path):
    images = np.zeros((20, 6, 5, 4), np.uint8)
    refused(
        tmp_path,
        r"have 4 channels; color_mode: grayscale needs 1 or 3",
        {"color_mode": "grayscale"},
        x_train=images,
        x_test=images[:8],
    )


def test_resizing_features(tmp_path):
    refused(
        tmp_path,
        r"image_size .* but x_train is float32 of shape \(20, 7\)",
        {"image_size": [4, 4]},
        x_train=FEATURES,
        x_test=FEATURES[:8],
    )
