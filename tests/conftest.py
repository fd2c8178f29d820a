"""Fixtures that every test may use: seeds, and the real data where it is at hand."""

import contextlib
import gc
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest

from bnzoo import cli

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def seeded():
    """Start every test from the same random state, whatever ran before it."""
    keras.utils.set_random_seed(1)


@pytest.fixture(autouse=True, scope="module")
def frozen():
    """Spare later collections what is here to stay: each run, also of a few steps, makes one.

    Without this they take seconds at the end of the suite, when millions of objects are alive.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data, or skip: `BNZOO_DATA_DIR` names it."""
    folder = os.environ.get("BNZOO_DATA_DIR")
    if not folder:
        pytest.skip("needs real data: set BNZOO_DATA_DIR to a folder with tfds/ and downloads/")
    return Path(folder)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> Path:
    """An exported classifier of small images, `small/1`; copy it before you change it."""
    import serving_exports

    return serving_exports.export_classifier(tmp_path_factory.mktemp("exported") / "small")


@pytest.fixture
def in_this_process(monkeypatch):
    """Compare exports in this process; a new one each time, as users have it, takes seconds."""
    import serving_exports

    serving_exports.compare_in_this_process(monkeypatch)


@pytest.fixture
def http(server):
    """A client over HTTP of the module's own `server`."""
    import serving_load

    with contextlib.closing(serving_load.HttpClient(server.port)) as client:
        yield client


@pytest.fixture
def by_grpc(server):
    """A client over gRPC of the module's own `server`."""
    import serving_load

    with contextlib.closing(serving_load.GrpcClient(server.grpc_port)) as client:
        yield client


@pytest.fixture
def call(monkeypatch, capfd):
    """Run `bnzoo ARGUMENTS` through its entry point, in this process: (exit code, out, err).

    Starting TensorFlow again would take seconds each time.
    """

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bnzoo", *map(str, arguments)])
        before = [(number, signal.getsignal(number)) for number in STOPPING]
        try:
            cli.main()
        except SystemExit as end:
            return end.code or 0, *capfd.readouterr()
        finally:
            for number, handler in before:
                signal.signal(number, handler)
        raise AssertionError("main() returned")

    return call
