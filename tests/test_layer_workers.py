"""Two real processes under `MultiWorkerMirroredStrategy` on loopback equal one big batch.

`fit` does not work there (keras-team/keras#20585); a plain loop does, and so does the layer.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BATCH, STEPS = 8, 3


def data():
    return np.random.default_rng(0).normal(5.0, 2.0, (BATCH * STEPS, 4)).astype("float32")


def model_of(implementation):
    import keras

    from bnzoo.layers import BatchNormalization

    keras.utils.set_random_seed(1)
    layer = BatchNormalization(momentum=0.5, synchronized=True, implementation=implementation)
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def train(model, batches, run):
    """Take a step for each batch; `run` runs one on every replica."""
    import tensorflow as tf

    def step(x):
        with tf.GradientTape() as tape:
            predicted = model(x, training=True)
            loss = model.compute_loss(x, x[:, :1], predicted)  # divided by the replicas already
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        model.optimizer.apply(gradients, variables)

    whole = tf.function(lambda x: run(step, (x,)))
    for x in batches:
        whole(x)
    return [np.asarray(weight).tolist() for weight in model.get_weights()]


def work(path, implementation):
    """Be one of the workers that `TF_CONFIG` names."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = model_of(implementation)
    batches = tf.data.Dataset.from_tensor_slices(data()).batch(BATCH, drop_remainder=True)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    shares = strategy.experimental_distribute_dataset(batches.with_options(options))
    weights = train(model, shares, strategy.run)
    Path(path).write_text(json.dumps({"weights": weights, "n": strategy.num_replicas_in_sync}))


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


# Two processes start TensorFlow: 15 to 20 seconds.
@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["auto", "xla"])
def test_two_workers_equal_one_big_batch(implementation, tmp_path):
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    workers = []
    for index in range(2):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        environment = os.environ | {
            "TF_CONFIG": json.dumps(task),
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        path = tmp_path / f"{index}.json"
        command = [sys.executable, __file__, str(path), implementation]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        workers.append((subprocess.Popen(command, env=environment, **pipes), path))
    results = []
    try:
        for process, path in workers:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output[-5000:]
            results.append(json.loads(path.read_text()))
    finally:
        for process, _ in workers:
            process.kill()
    assert [result["n"] for result in results] == [2, 2]
    assert results[0]["weights"] == results[1]["weights"], "the workers disagree"

    import tensorflow as tf

    model = model_of("reference")
    batches = tf.data.Dataset.from_tensor_slices(data()).batch(BATCH, drop_remainder=True)
    # Which examples a worker gets is the strategy's affair: together they are the batch.
    expected = train(model, batches, lambda step, arguments: step(*arguments))
    for one, other in zip(results[0]["weights"], expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)  # float32 sums


if __name__ == "__main__":
    work(*sys.argv[1:])
