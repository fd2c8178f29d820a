"""The Devanagari builder: TFDS' own checks, the real archive, read-only data, crashes, races."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from data_files import collect, write_devanagari_archive

import bnzoo.data
from bnzoo.data.devanagari_digits import ARCHIVES, URL, DevanagariDigits
from bnzoo.errors import InputError


class TestDevanagariDigits(tfds.testing.DatasetBuilderTestCase):
    """TFDS' checks, on the path that downloads: its test case answers with a small archive."""

    DATASET_CLASS = DevanagariDigits
    SPLITS = {"train": 30, "test": 20}  # noqa: RUF012
    EXAMPLE_DIR = tempfile.mkdtemp()
    DL_DOWNLOAD_RESULT = "archive.zip"
    SKIP_CHECKSUMS = True  # UCI publishes none, and the file cannot be fetched here

    @classmethod
    def setUpClass(cls):
        write_devanagari_archive(Path(cls.EXAMPLE_DIR) / "archive.zip")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.EXAMPLE_DIR)

    def setUp(self):
        empty = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, empty)
        for name in ("BNZOO_DATA_DIR", "BNZOO_CACHE_DIR"):
            old = os.environ.get(name)
            os.environ[name] = empty
            self.addCleanup(self._restore, name, old)
        super().setUp()

    @staticmethod
    def _restore(name, old):
        os.environ.pop(name, None)
        if old is not None:
            os.environ[name] = old


@pytest.fixture
def folders(tmp_path, monkeypatch):
    local, cache = tmp_path / "local", tmp_path / "cache"
    monkeypatch.setenv("BNZOO_DATA_DIR", str(local))
    monkeypatch.setenv("BNZOO_CACHE_DIR", str(cache))
    return local, cache


def load():
    return bnzoo.data.load("devanagari_digits", batch_size=4, validation="none")


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_are_read_in_place_and_digits_only(folders, name):
    write_devanagari_archive(folders[0] / "downloads" / name)
    splits = load()
    assert splits.input_shape == (32, 32, 1)
    assert np.bincount(collect(splits.train)[1]).tolist() == [3] * 10
    assert np.bincount(collect(splits.test)[1]).tolist() == [2] * 10
    assert sorted(path.name for path in folders[0].rglob("*")) == sorted(["downloads", name])


def test_prepared_copy_outlives_the_archive(folders):
    archive = write_devanagari_archive(folders[0] / "downloads" / ARCHIVES[0])
    first = collect(load().test)[0]
    archive.unlink()
    np.testing.assert_array_equal(collect(load().test)[0], first)


def test_read_only_data_folder_is_never_written_to(folders):
    write_devanagari_archive(folders[0] / "downloads" / ARCHIVES[0])
    (folders[0] / "tfds").mkdir()
    tree = [folders[0], *folders[0].rglob("*")]
    for path in tree:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = [(path, path.stat().st_mtime_ns, path.stat().st_mode) for path in tree]
    try:
        load()
        # As root permissions forbid nothing, so look: the same entries, none of them touched.
        assert [folders[0], *folders[0].rglob("*")] == tree
        assert [(path, path.stat().st_mtime_ns, path.stat().st_mode) for path in tree] == before
    finally:
        for path in tree:
            path.chmod(0o755)


def test_archive_that_is_cut_short(folders):
    archive = write_devanagari_archive(folders[0] / "downloads" / ARCHIVES[0])
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"preparing it failed: File is not a zip file\. .*fetch"):
        load()
    assert not list(folders[1].rglob("*.tfrecord*"))


def test_archive_of_something_else(folders):
    write_devanagari_archive(folders[0] / "downloads" / ARCHIVES[0], num_train=0)
    with pytest.raises(InputError, match=rf"{ARCHIVES[0]} holds no files Train/digit_"):
        load()


def test_cache_that_cannot_be_created(folders):
    write_devanagari_archive(folders[0] / "downloads" / ARCHIVES[0])
    folders[1].write_text("a file")
    with pytest.raises(InputError, match=r"cache.tfds cannot be created .*BNZOO_CACHE_DIR"):
        load()


def start_loading():
    """Load in another process, where writing the files takes a while."""
    code = (
        "import time, bnzoo.data\n"
        "from bnzoo.data.devanagari_digits import DevanagariDigits as Builder\n"
        "generate = Builder._generate_examples\n"
        "def slowly(self, *arguments):\n"
        "    for example in generate(self, *arguments):\n"
        "        time.sleep(0.03)\n"
        "        yield example\n"
        "Builder._generate_examples = slowly\n"
        "splits = bnzoo.data.load('devanagari_digits', batch_size=4)\n"
        "print(splits.num_train, splits.num_test)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def wait_until_preparing(cache):
    """Wait for the unfinished folder of the other process, and return where it lies."""
    builders = cache / "tfds" / "devanagari_digits"
    deadline = time.monotonic() + 60
    while not list(builders.glob("incomplete*")):
        assert time.monotonic() < deadline, "the other process never began"
        time.sleep(0.02)
    return builders


def test_a_killed_preparation_leaves_nothing_half_done(folders):
    write_devanagari_archive(folders[0] / "downloads" / ARCHIVES[0])
    process = start_loading()
    builders = wait_until_preparing(folders[1])
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(builders.glob("incomplete*"))
    assert not (builders / "1.0.0").exists()
    assert load().num_test == 20
    assert not list(builders.glob("incomplete*"))


def test_a_second_process_waits_for_the_one_that_prepares(folders, capfd):
    write_devanagari_archive(folders[0] / "downloads" / ARCHIVES[0])
    process = start_loading()
    wait_until_preparing(folders[1])
    assert load().num_test == 20
    assert "Downloading and preparing" not in "".join(capfd.readouterr())
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert output.split() == ["27", "20"]
    assert "Downloading and preparing" in errors


def test_builder_names_its_origin_and_licence():
    assert "archive.ics.uci.edu" in URL
    with tempfile.TemporaryDirectory() as folder:
        info = DevanagariDigits(data_dir=folder).info
    assert "CC BY 4.0" in info.redistribution_info.license
    assert "10.24432/C5XS53" in info.redistribution_info.license
    assert "Acharya" in info.citation


def test_real_archive(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("BNZOO_CACHE_DIR", str(tmp_path))
    splits = bnzoo.data.load("devanagari_digits", batch_size=1000, validation="test")
    assert (splits.num_train, splits.num_test) == (17_000, 3_000)
    assert np.bincount(collect(splits.train)[1]).tolist() == [1700] * 10
    x, y = collect(splits.test)
    assert np.bincount(y).tolist() == [300] * 10
    assert x.shape == (3000, 32, 32, 1)
    assert (x.min(), x.max()) == (0.0, 1.0)
    # Every image has a border of 2 blank pixels, as its authors say.
    border = np.ones((32, 32), bool)
    border[2:-2, 2:-2] = False
    assert (x[:, border] == 0).mean() > 0.99
    assert (tmp_path / "tfds" / "devanagari_digits" / "1.0.0").is_dir()
