"""Under Keras' `DataParallel` on JAX every statistic is of the whole batch: two host devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Minutes together; tests/test_ops_gradient.py and test_layer_jax.py stay in the default suite.
pytestmark = pytest.mark.slow


def data():
    """Make two halves that differ, so that local statistics would show."""
    x = np.random.default_rng(0).normal(size=(8, 3, 4)).astype("float32")
    x[4:] = 3 * x[4:] + 5
    return x


def train(parallel, **arguments):
    """Fit for two steps; return the weights, and how many devices held a batch."""
    import jax
    import keras

    from bnzoo.layers import BatchNormalization

    keras.utils.set_random_seed(1)
    devices = jax.devices() if parallel else jax.devices()[:1]
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    layer = BatchNormalization(momentum=0.0, **arguments)
    model = keras.Sequential([keras.Input((3, 4)), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x = data()
    model.fit(x, x[..., :1], batch_size=8, epochs=2, shuffle=False, verbose=0)
    keras.distribution.set_distribution(None)
    return [np.asarray(weight).tolist() for weight in model.get_weights()]


CASES = {
    "auto": {},
    "reference": {"implementation": "reference"},
    "ghosts": {"virtual_batch_size": 2},
    "channels_first": {"axis": 1},
}


def main(path):
    """Train every case on two devices and on one, and write down the weights."""
    import jax

    results = {
        name: [train(parallel, **arguments) for parallel in (True, False)]
        for name, arguments in CASES.items()
    }
    results["devices"] = len(jax.devices())
    Path(path).write_text(json.dumps(results))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    pytest.importorskip("jax")
    path = tmp_path_factory.mktemp("jax") / "results.json"
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(path.read_text())


def test_there_are_two_devices(trained):
    assert trained["devices"] == 2


@pytest.mark.parametrize("name", CASES)
def test_two_devices_learn_what_one_learns(name, trained):
    for one, other in zip(*trained[name], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)  # float32 sums


def test_the_moving_statistics_are_of_the_whole_batch(trained):
    *_, mean, variance = trained["auto"][0][:4]
    x = data()
    np.testing.assert_allclose(mean, x.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(variance, x.var((0, 1)), rtol=1e-5)


if __name__ == "__main__":
    main(sys.argv[1])
