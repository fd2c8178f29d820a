"""TFDS data sets: prepared or missing, in memory or streamed, suitable or not."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from data_files import as_multiset, collect, numbered_image

import bnzoo.data
from bnzoo.data.locations import reachable_hosts
from bnzoo.errors import InputError

FEATURES = tfds.features.FeaturesDict(
    {
        "image": tfds.features.Image(shape=(6, 5, 1)),
        "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
        "note": tfds.features.Text(),
    }
)


def write_tfds(root, name, splits=("train", "test"), features=FEATURES, shape=(6, 5, 1), keys=None):
    """Write a prepared data set, as TFDS would have, of 40 examples a split."""
    folder = root / "tfds" / name / "1.0.0"
    folder.mkdir(parents=True)
    infos = []
    for offset, split in enumerate(splits):
        template = tfds.core.ShardedFileTemplate(
            dataset_name=name, split=split, data_dir=folder, filetype_suffix="tfrecord"
        )
        serializer = features.serialize_example
        path = folder / f"{name}-{split}.tfrecord-00000-of-00001"
        sizes = 0
        with tf.io.TFRecordWriter(str(path)) as writer:
            for number in range(40):
                image = numbered_image(100 * offset + number, shape)
                example = {"image": image, "label": number % 3, "note": "unused"}
                record = serializer(
                    features.encode_example({key: example[key] for key in features})
                )
                sizes += len(record)
                writer.write(record)
        infos.append(
            tfds.core.SplitInfo(
                name=split, shard_lengths=[40], num_bytes=sizes, filename_template=template
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=infos,
        supervised_keys=keys or ("image", "label"),
        check_data=False,
    )
    return folder


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Empty folders for local data and for the cache."""
    local, cache = tmp_path / "local", tmp_path / "cache"
    monkeypatch.setenv("BNZOO_DATA_DIR", str(local))
    monkeypatch.setenv("BNZOO_CACHE_DIR", str(cache))
    return local, cache


@pytest.fixture
def offline(monkeypatch):
    """Let every look-up of a host fail, whether or not this machine has a network."""

    def refuse(*arguments, **keywords):
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def load(name, **params):
    return bnzoo.data.load(name, **{"batch_size": 4, **params})


def test_prepared_set_is_read_from_the_data_folder(folders):
    write_tfds(folders[0], "tiny")
    splits = load("tfds:tiny", validation=0.25)
    assert splits.class_names == ("a", "b", "c")
    assert (splits.num_train, splits.num_validation, splits.num_test) == (30, 10, 40)
    x, y = collect(splits.test)
    assert y.tolist() == [number % 3 for number in range(40)]
    np.testing.assert_allclose(x[7], numbered_image(107) / 255, rtol=1e-6)


def test_prepared_set_is_read_from_the_cache(folders):
    write_tfds(folders[1], "tiny")
    assert load("tfds:tiny").num_test == 40


@pytest.mark.parametrize(
    "params", [{}, {"color_mode": "rgb", "image_size": [4, 9]}, {"validation": "none"}]
)
def test_stream_gives_the_same_examples(folders, params):
    write_tfds(folders[0], "tiny")
    kept, streamed = load("tfds:tiny", **params), load("tfds:tiny", memory_limit=0, **params)
    assert kept.input_shape == streamed.input_shape
    assert len(kept.train) == len(streamed.train)
    assert as_multiset(*collect(kept.train)) == as_multiset(*collect(streamed.train))
    for split in ("validation", "test"):
        if getattr(kept, split) is not None:
            for ours, theirs in zip(
                collect(getattr(kept, split)), collect(getattr(streamed, split)), strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)


def test_order_of_a_stream_depends_on_seed_and_epoch_alone(folders):
    write_tfds(folders[0], "tiny")

    def epochs(first, global_seed, seed=0):
        tf.random.set_seed(global_seed)
        splits = load("tfds:tiny", memory_limit=0, seed=seed, augment="flip_crop")
        splits.begin_epoch(first)
        return [collect(splits.train)[0] for _ in range(2)]

    start, resumed = epochs(0, global_seed=1), epochs(1, global_seed=2)
    np.testing.assert_array_equal(start[1], resumed[0])
    assert not np.array_equal(start[0], start[1])
    assert not np.array_equal(start[0], epochs(0, 1, seed=1)[0])


def test_augmentation_of_a_stream_follows_the_example(folders):
    write_tfds(folders[0], "tiny")
    examples = [
        as_multiset(*collect(load("tfds:tiny", memory_limit=limit, augment="flip_crop").train))
        for limit in (0, 2**30)
    ]
    assert examples[0] == examples[1]


def test_set_without_a_test_split_is_refused(folders):
    write_tfds(folders[0], "tiny", splits=("train", "validation"))
    with pytest.raises(InputError, match=r"has the splits train, validation; expected train and"):
        load("tfds:tiny")


def test_set_without_class_labels_is_refused(folders):
    write_tfds(folders[0], "tiny", keys=("image", "note"))
    with pytest.raises(InputError, match=r"not a supervised .*\('image', 'note'\)"):
        load("tfds:tiny")


def test_text_set_is_refused_before_any_download(folders):
    with pytest.raises(InputError, match=r"imdb_reviews is not a supervised image"):
        load("tfds:imdb_reviews")


def test_images_that_differ_in_size_need_a_size(folders):
    features = tfds.features.FeaturesDict({**FEATURES, "image": tfds.features.Image()})
    write_tfds(folders[0], "tiny", features=features, shape=(6, 5, 3))
    with pytest.raises(InputError, match=r"tfds:tiny differ in size.*Set data\.image_size"):
        load("tfds:tiny")
    assert load("tfds:tiny", image_size=[6, 5]).input_shape == (6, 5, 3)


def test_damaged_files_are_named(folders):
    folder = write_tfds(folders[0], "tiny")
    path = next(folder.glob("*train*"))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=rf"{folder} cannot be read\. Delete that folder"):
        load("tfds:tiny")


def test_unknown_set_names_the_near_one(folders):
    with pytest.raises(
        InputError, match=r"no data set 'fashion_mnst'. Did you mean 'fashion_mnist'"
    ):
        load("tfds:fashion_mnst")


def test_unknown_configuration_names_the_known_ones(folders):
    with pytest.raises(InputError, match=r"no 'emnist/greek': emnist has .*byclass.*letters"):
        load("tfds:emnist/greek")


def test_unknown_version_names_the_known_one(folders):
    with pytest.raises(InputError, match=r"no 'mnist:1\.2\.3'.* the versions 3\.0\.1"):
        load("tfds:mnist:1.2.3")


def test_set_that_must_be_fetched_by_hand_says_so(folders):
    with pytest.raises(InputError, match=r"fetched by hand \(.*ILSVRC2012"):
        load("tfds:imagenet2012")


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("tfds:fashion_mnist", "amazonaws.com"),
        ("mnist", "storage.googleapis.com"),
        ("cifar10", "www.cs.toronto.edu"),
        ("devanagari_digits", "archive.ics.uci.edu"),
    ],
)
def test_missing_data_offline_is_one_error_within_seconds(folders, offline, name, host):
    started = time.monotonic()
    with pytest.raises(InputError, match=rf"{host}") as caught:
        load(name)
    assert time.monotonic() - started < 5
    assert "BNZOO_DATA_DIR" in str(caught.value)
    assert str(folders[0] / "tfds") in str(caught.value)
    assert not any(folder.exists() for folder in folders)  # nothing was written for an error


def test_missing_data_is_reported_within_seconds_of_the_start_of_a_process(folders):
    """The whole way with the real network: on a machine that has one, it asks a name that hangs."""
    code = (
        "import sys, bnzoo.data, bnzoo.data.locations as network\n"
        "from bnzoo.errors import InputError\n"
        "network.urllib.request.urlopen = lambda *a, **k: __import__('time').sleep(60)\n"
        "try: bnzoo.data.load('tfds:kmnist')\n"
        "except InputError as error: print(error)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    started = time.monotonic()
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert "kmnist is not prepared" in output.stdout
    assert time.monotonic() - started < 5


def test_a_refusing_host_counts_as_reachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file.zip"
        assert reachable_hosts([url, "http://127.0.0.1:1/"]) == {"127.0.0.1"}


def test_a_silent_host_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        assert reachable_hosts([url], seconds=0.3) == set()
        assert time.monotonic() - started < 2


def snapshot(root: Path):
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(root.rglob("*"))
    }


def test_real_mnist_and_the_data_folder_stays_as_it_is(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("BNZOO_CACHE_DIR", str(tmp_path / "cache"))
    before = snapshot(data_dir)
    splits = bnzoo.data.load("mnist", batch_size=1000)
    assert splits.input_shape == (28, 28, 1)
    assert (splits.num_train, splits.num_validation, splits.num_test) == (54_000, 6_000, 10_000)
    counts = np.bincount(collect(splits.test)[1])
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert snapshot(data_dir) == before
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_real_cifar10(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("BNZOO_CACHE_DIR", str(tmp_path / "cache"))
    splits = bnzoo.data.load("cifar10", batch_size=1000, validation="test")
    assert splits.input_shape == (32, 32, 3)
    assert (splits.num_train, splits.num_test) == (50_000, 10_000)
    assert splits.class_names[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(collect(splits.train)[1]).tolist() == [5000] * 10
