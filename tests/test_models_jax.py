"""With the JAX backend every model trains a step, is saved and loaded, without TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SCRIPT = """
import sys

sys.modules["tensorflow"] = None  # any import of TensorFlow now fails

import keras
import numpy as np

import bnzoo.models
from cases import SLOW_MODELS, MODELS

assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(0)
for name, parameters in MODELS:
    if (name in SLOW_MODELS) != (sys.argv[2] == "slow"):
        continue
    model = bnzoo.models.build(name, **parameters)
    x = np.random.rand(4, *[size or 7 for size in model.input_shape[1:]]).astype("float32")
    if "classes" in parameters:
        y = np.arange(4) % parameters["classes"]
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        x[-1, -1:] = -1  # a padded step of a sequence
    else:
        y = np.random.rand(4, *model.output_shape[1:])
        loss = "mse"
    model.compile(optimizer="sgd", loss=loss)
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(x, y))
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights())]
    assert any(changed), name
    model.save(sys.argv[1])
    loaded = keras.saving.load_model(sys.argv[1], safe_mode=True)
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-5, atol=1e-6)
    print("trained", name)
"""


@pytest.mark.parametrize("kind", ["quick", pytest.param("slow", marks=pytest.mark.slow)])
def test_every_model_trains_on_jax_where_tensorflow_is_blocked(kind, tmp_path):
    pytest.importorskip("jax")
    paths = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "model.keras"), kind],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert f"trained {'resnet' if kind == 'slow' else 'three_conv'}" in result.stdout
