"""JAX's transformations of the layer give what they give of `keras.layers.BatchNormalization`.

As in tests/test_layer_jax.py everything runs in a process of its own, here without XLA's
optimizations: a hundred functions are compiled, and each is run once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax_transformations
import pytest
from jax_transformations import CASES, DEBUGGED, KEPT, SLOW_CASES

# Relative to the largest value of an array: sums of 120 numbers in another order, and the
# cancellation in second derivatives. A bfloat16 has 8 bits, and two of them are multiplied.
TOLERANCE = {"float64": 1e-12, "bfloat16": 4e-2}


def run(path, which):
    pytest.importorskip("jax")
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    command = [sys.executable, jax_transformations.__file__, str(path), which]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    return run(tmp_path_factory.mktemp("jax") / "results.json", "default")


@pytest.fixture(scope="module")
def rest_on_jax(tmp_path_factory):
    return run(tmp_path_factory.mktemp("jax") / "results.json", "slow")


def assert_alike(result, kind):
    assert result["theirs"] is None
    assert result["ours"] is None
    assert result["size"] > 1e-3  # there was something to compare
    assert result["difference"] <= TOLERANCE.get(kind, 2e-5)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_transformation_gives_what_it_gives_of_keras_layer(kind, name, on_jax):
    assert_alike(on_jax[f"{kind} {name}"], kind)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), SLOW_CASES)
def test_every_transformation_gives_what_it_gives_of_keras_layer(kind, name, rest_on_jax):
    assert_alike(rest_on_jax[f"{kind} {name}"], kind)


@pytest.mark.parametrize("kind", DEBUGGED)
def test_clean_data_make_no_nan_on_the_way(kind, on_jax):
    assert on_jax["debug_nans"][kind] == {"theirs": None, "ours": None}


def assert_small(leaves, kept, masked):
    """Check what is kept besides an array of x's size: vectors, and the mask if there is one."""
    others = sorted(leaf["size"] for leaf in leaves)
    if masked and others and others[-1] == kept["x"] // kept["channels"]:
        others.pop()
    assert all(size <= kept["channels"] for size in others), kept["leaves"]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", KEPT)
def test_training_keeps_x_and_vectors_for_the_backward_pass(kind, compiled, on_jax):
    kept = on_jax["kept"][f"{kind} True {compiled}"]
    leaves = kept["leaves"]
    whole = [leaf for leaf in leaves if leaf["size"] == kept["x"]]
    assert len(whole) == 1, leaves
    # x waits anyway, for the layer before; told to be plain, the layer may keep x - mean instead.
    assert whole[0]["is_x"] or kind == "reference", leaves
    assert_small([leaf for leaf in leaves if leaf not in whole], kept, "masked" in kind)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", KEPT)
def test_inference_keeps_one_array_and_vectors_for_the_backward_pass(kind, compiled, on_jax):
    kept = on_jax["kept"][f"{kind} False {compiled}"]
    whole = [leaf for leaf in kept["leaves"] if leaf["size"] == kept["x"]]
    assert len(whole) <= 1, kept["leaves"]
    assert_small([leaf for leaf in kept["leaves"] if leaf not in whole], kept, False)


def test_a_large_batch_keeps_no_more(on_jax):
    kept = on_jax["kept"]["large"]
    whole = [leaf for leaf in kept["leaves"] if leaf["size"] == kept["x"]]
    assert len(whole) == 1, kept["leaves"]
    assert whole[0]["is_x"], kept["leaves"]
    assert_small([leaf for leaf in kept["leaves"] if leaf not in whole], kept, False)
