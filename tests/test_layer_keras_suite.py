"""Keras' own tests of its layer pass with ours standing in."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from marks import needs_keras

PLUGIN = """
import keras.src.layers
from bnzoo.layers import BatchNormalization

calls = []
# Looked up at call time by the test file.
keras.src.layers.BatchNormalization = BatchNormalization
original = BatchNormalization.__init__


def counted(self, *args, **kwargs):
    calls.append(kwargs)
    original(self, *args, **kwargs)


BatchNormalization.__init__ = counted


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"stand-in constructed {len(calls)} times")
"""
NUM_TESTS = 33  # in Keras 3.15


def run_keras_suite(backend, folder):
    (folder / "stand_in.py").write_text(PLUGIN)
    (folder / "pytest.ini").write_text("[pytest]\n")
    package = Path(keras.src.__file__).parent
    suite = package / "layers" / "normalization" / "batch_normalization_test.py"
    root = Path(__file__).parents[1]
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join([str(folder), str(root)]),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "stand_in", "-p", "no:cacheprovider"]
    command += ["-c", str(folder / "pytest.ini"), str(suite)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@needs_keras("3.15", "older ones come without their tests, or with fewer")
@pytest.mark.parametrize(
    "backend",
    # JAX compiles each operation of these tests once: half a minute.
    ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)],
)
def test_keras_own_tests_pass(backend, tmp_path):
    if backend == "jax":
        pytest.importorskip("jax")
    code, output = run_keras_suite(backend, tmp_path)
    assert code == 0, output[-5000:]
    assert int(re.search(r"(\d+) passed", output)[1]) >= NUM_TESTS
    assert int(re.search(r"constructed (\d+) times", output)[1]) >= NUM_TESTS
