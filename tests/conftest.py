"""Fixtures that every test may use: seeds, and the real data where it is at hand."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest


@pytest.fixture(autouse=True)
def seeded():
    """Start every test from the same random state, whatever ran before it."""
    keras.utils.set_random_seed(1)


@pytest.fixture
def data_dir() -> Path:
    """The folder of real data, or skip: `BNZOO_DATA_DIR` names it."""
    folder = os.environ.get("BNZOO_DATA_DIR")
    if not folder:
        pytest.skip("needs real data: set BNZOO_DATA_DIR to a folder with tfds/ and downloads/")
    return Path(folder)
