"""Folders of images: what is read, and one clear error for everything that is wrong with them."""

import numpy as np
import pytest
from data_files import as_multiset, collect, numbered_image, write_folder, write_image

import bnzoo.data
from bnzoo.errors import InputError


def load(root, **params):
    return bnzoo.data.load(f"folder:{root}", **{"batch_size": 2, "validation": "none", **params})


def test_folder_is_read_with_its_classes_in_order(tmp_path):
    splits = load(write_folder(tmp_path))
    assert splits.class_names == ("cat", "dog")
    assert (splits.num_train, splits.num_test) == (12, 6)
    assert splits.input_shape == (6, 5, 1)
    x, y = collect(splits.test)
    assert y.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(x[4], numbered_image(16).astype(np.float32) / 255, rtol=1e-6)


def test_jpeg_bmp_gif_and_upper_case_endings_are_read(tmp_path):
    root = write_folder(tmp_path)
    image = write_image(root / "train" / "cat" / "a.jpg", numbered_image(50))
    image.rename(image.with_suffix(".JPEG"))
    (root / "train" / "cat" / ".hidden.png").write_text("not an image")
    assert load(root).num_train == 13


@pytest.mark.parametrize("params", [{}, {"color_mode": "rgb", "image_size": [9, 4]}])
def test_decoding_when_needed_gives_the_same_examples_in_the_same_order(tmp_path, params):
    root = write_folder(tmp_path)
    params = {"augment": "flip_crop", "validation": 0.3, **params}
    kept, decoded = load(root, **params), load(root, memory_limit=0, **params)
    assert kept.input_shape == decoded.input_shape
    for split in ("train", "validation", "test"):
        for ours, theirs in zip(
            collect(getattr(kept, split)), collect(getattr(decoded, split)), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_images_are_resized(tmp_path):
    root = write_folder(tmp_path)
    write_image(root / "train" / "cat" / "large.png", numbered_image(99, (30, 40, 1)))
    splits = load(root, image_size=[10, 12])
    assert splits.input_shape == (10, 12, 1)
    assert collect(splits.train)[0].shape == (13, 10, 12, 1)


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.train does not exist; expected <folder>/train"):
        load(tmp_path / "nowhere")


def test_file_instead_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.train does not exist; expected"):
        load(tmp_path / "file")


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match=r"train does not exist.*Check the path"):
        load(tmp_path)


def test_folder_without_test_images(tmp_path):
    write_image(tmp_path / "train" / "cat" / "0.png", numbered_image(0))
    write_image(tmp_path / "train" / "dog" / "0.png", numbered_image(1))
    with pytest.raises(InputError, match=r"test does not exist.*Check the path"):
        load(tmp_path)


def test_train_without_classes(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"train has no class folders.*add one folder per class"):
        load(tmp_path)


def test_class_folder_without_images(tmp_path):
    root = write_folder(tmp_path)
    (root / "train" / "bird").mkdir()
    (root / "test" / "bird").mkdir()
    (root / "train" / "bird" / "a.webp").write_bytes(b"")
    with pytest.raises(InputError, match=r"train/bird has no images: found \['a\.webp'\]"):
        load(root)


@pytest.mark.parametrize("kind", ["webp", "folder", "dead link"])
def test_what_is_no_image_is_named_or_skipped_and_counted_never_dropped(tmp_path, kind):
    root = write_folder(tmp_path)
    stranger = root / "train" / "cat" / "stranger"
    if kind == "webp":
        stranger = stranger.with_suffix(".webp")
        stranger.write_bytes(b"RIFF0000WEBP")
    elif kind == "folder":
        stranger.mkdir()
    else:
        stranger.symlink_to(root / "gone.png")
    with pytest.raises(InputError, match=f"The image {stranger} cannot be read"):
        load(root)
    assert load(root, skip_unreadable=True).skipped == (str(stranger),)


def test_what_systems_leave_in_folders_is_ignored(tmp_path):
    root = write_folder(tmp_path)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.png"):
        (root / "train" / "cat" / name).write_bytes(b"x")
    assert load(root).skipped == ()


def test_one_class(tmp_path):
    with pytest.raises(InputError, match=r"train has one class, 'cat'; expected at least two"):
        load(write_folder(tmp_path, classes=("cat",)))


def test_classes_of_test_that_differ(tmp_path):
    root = write_folder(tmp_path)
    (root / "test" / "dog").rename(root / "test" / "dogs")
    with pytest.raises(InputError, match=r"only in train \['dog'\], only in test \['dogs'\]"):
        load(root)


def break_image(root, name="train/cat/1.png"):
    path = root / name
    path.write_bytes(path.read_bytes()[:40])
    return path


@pytest.mark.parametrize("contents", [b"", b"no image at all", None])
def test_unreadable_image_is_named_in_one_plain_line(tmp_path, contents):
    path = break_image(write_folder(tmp_path))
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"The image {path} cannot be read: it is empty, damaged or")
    assert "skip_unreadable: true" in str(caught.value)
    assert "{{" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_unreadable_images_are_skipped_and_counted(tmp_path, memory_limit):
    whole = collect(load(write_folder(tmp_path)).train)
    paths = [break_image(tmp_path, name) for name in ("train/cat/0.png", "train/dog/3.png")]
    splits = load(tmp_path, skip_unreadable=True, memory_limit=memory_limit)
    assert splits.skipped == tuple(str(path) for path in paths)
    assert splits.num_train == 10
    assert set(as_multiset(*collect(splits.train))) < set(as_multiset(*whole))


def test_class_whose_images_are_all_unreadable(tmp_path):
    root = write_folder(tmp_path, per_class=2)
    break_image(root, "test/dog/0.png")
    with pytest.raises(InputError, match=r"test/dog has no image that can be read"):
        load(root, skip_unreadable=True)


def test_no_readable_image_at_all(tmp_path):
    root = write_folder(tmp_path, per_class=2)
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"train/cat has no image that can be read"):
        load(root, skip_unreadable=True)


def test_image_of_another_size_is_named(tmp_path):
    root = write_folder(tmp_path)
    path = write_image(root / "test" / "cat" / "9.png", numbered_image(9, (8, 5, 1)))
    with pytest.raises(
        InputError,
        match=rf"{path} has the shape \(8, 5, 1\).*expected \(6, 5, 1\) as in .*train/cat/0.png",
    ):
        load(root)


def test_image_of_other_channels_is_named(tmp_path):
    root = write_folder(tmp_path)
    path = write_image(root / "train" / "dog" / "9.png", numbered_image(9, (6, 5, 3)))
    with pytest.raises(
        InputError, match=rf"{path} has the shape \(6, 5, 3\).*expected \(6, 5, 1\) .*color_mode"
    ):
        load(root)
    assert load(root, color_mode="rgb").input_shape == (6, 5, 3)


def test_fraction_that_leaves_no_validation_example(tmp_path):
    with pytest.raises(InputError, match=r"0.01 of the 12 training examples .* 0 for validation"):
        load(write_folder(tmp_path), validation=0.01)


def test_fraction_that_would_take_everything_leaves_one_of_each_class(tmp_path):
    splits = load(write_folder(tmp_path), validation=0.99)
    assert sorted(collect(splits.train)[1]) == [0, 1]


def test_classes_of_one_image_each_cannot_be_split(tmp_path):
    root = write_folder(tmp_path, per_class=2)
    for name in ("cat", "dog"):
        (root / "train" / name / "1.png").unlink()
    with pytest.raises(InputError, match=r"leaves 2 for training and 0 for validation"):
        load(root, validation=0.5)


def test_batch_larger_than_the_folder(tmp_path):
    with pytest.raises(InputError, match=r"batch_size: 13 .* 12 training examples"):
        load(write_folder(tmp_path), batch_size=13)
