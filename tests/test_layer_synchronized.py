"""Two replicas with `synchronized=True` equal one big batch.

Logical devices have to exist before TensorFlow starts, so tests/replicas.py runs in a process of
its own and writes down what came out.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import replicas as at_work
from replicas import CASES, SLOW_CASES, batch_of, layer_for, replica_step


def run_them(folder, which):
    path = folder / "results.json"
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, at_work.__file__, str(path), which]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    return run_them(tmp_path_factory.mktemp("replicas"), "usual")


@pytest.fixture(scope="module")
def slow_replicas(tmp_path_factory):
    return run_them(tmp_path_factory.mktemp("replicas"), "slow")


@pytest.mark.parametrize("name", CASES)
def test_two_replicas_equal_one_big_batch(name, replicas):
    assert_equal_to_one_big_batch(CASES[name], replicas[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_CASES)
def test_two_replicas_equal_one_big_batch_by_every_way(name, slow_replicas):
    assert_equal_to_one_big_batch(SLOW_CASES[name], slow_replicas[name])


def assert_equal_to_one_big_batch(case, actual):
    import tensorflow as tf

    dtype = case.get("dtype", "float64")
    x, upstream, direction, mask = batch_of(**case)
    # In float64 whatever the case's dtype: the truth, not the same rounding.
    layer = layer_for(case.get("arguments", {}), "float64")
    tensors = [tf.constant(array.astype("float64")) for array in (x, upstream, direction)]
    mask = None if mask is None else tf.constant(mask)
    outputs, first, second, *learned = replica_step(layer, *tensors, mask)

    # A float32 mean near 1e4 is off by up to 5e-4, and the gradients are of order 1 to 10.
    tolerance = 1e-9 if dtype == "float64" else 2e-3
    relative = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(actual["whole"][0], outputs, **relative)
    np.testing.assert_allclose(actual["whole"][1], first, **relative)
    if dtype == "float64":
        np.testing.assert_allclose(actual["whole"][2], second, rtol=1e-8, atol=1e-8)
    for one, other in zip(actual["learned"], learned, strict=True):
        np.testing.assert_allclose(one, other, **relative)
    for pieces, weight in zip(actual["moving"], layer.non_trainable_variables, strict=True):
        assert pieces[0] == pieces[1], "replicas disagree"
        np.testing.assert_allclose(pieces[0], np.asarray(weight), rtol=1e-9 + tolerance / 10)


@pytest.mark.parametrize("implementation", ["auto", "xla"])
def test_one_exchange_forward_and_one_backward(implementation, replicas):
    assert replicas["exchanges"][implementation] == 2


@pytest.mark.slow
def test_one_exchange_forward_and_one_backward_of_the_reference(slow_replicas):
    assert slow_replicas["exchanges"]["reference"] == 2


def test_fit_under_a_strategy_keeps_global_statistics(replicas):
    assert_global(replicas["fit"])


@pytest.mark.slow
def test_fit_by_xla_under_a_strategy_keeps_global_statistics(slow_replicas):
    assert_global(slow_replicas["fit_xla"])


def assert_global(result):
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    # float32 sums in another order.
    np.testing.assert_allclose(result["mean"], x.mean(0), atol=1e-6)
    np.testing.assert_allclose(result["variance"], x.var(0), rtol=1e-5)
    assert result["loss"][1] < result["loss"][0]
    assert result["finite"]


def test_fit_under_a_strategy_takes_an_uneven_last_batch(replicas):
    """Eleven examples in batches of eight: two replicas share the last three."""
    last = np.random.default_rng(0).normal(size=(11, 4)).astype("float32")[8:]
    np.testing.assert_allclose(replicas["fit_uneven"]["mean"], last.mean(0), atol=1e-6)
    np.testing.assert_allclose(replicas["fit_uneven"]["variance"], last.var(0), rtol=1e-5)


def test_bad_batches_are_counted_once_under_a_strategy(replicas):
    assert replicas["bad_batches"] == 2 * [{"total": 1, "warned": 1, "finite": True}]


def test_fit_under_a_strategy_works_with_local_statistics(replicas):
    first_half = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")[:4]
    # float32 sums in another order.
    np.testing.assert_allclose(replicas["fit_local"]["mean"], first_half.mean(0), atol=1e-6)
    np.testing.assert_allclose(replicas["fit_local"]["variance"], first_half.var(0), rtol=1e-5)
    assert replicas["fit_local"]["finite"]


def test_without_a_strategy_it_is_plain_batch_statistics():
    import tensorflow as tf

    x = tf.constant(batch_of((4, 4))[0])
    layers = [layer_for({"synchronized": flag}, "float64") for flag in (True, False)]
    outputs = [layer(x, training=True) for layer in layers]
    np.testing.assert_array_equal(*outputs)
    np.testing.assert_array_equal(*(layer.moving_variance for layer in layers))
