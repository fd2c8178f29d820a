"""Runs on two replicas, in processes of their own: for tests/test_training_distributed.py."""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np

# Each epoch ends with a batch of 13 examples, of which two replicas get 6 and 7.
TREE = {
    "seed": 3,
    "data": {
        "name": "digits",
        "batch_size": 32,
        "validation": 0.2,
        "train_size": 461,
        "test_size": 65,
    },
    "model": {"name": "three_conv", "filters": [4, 8, 8]},
    "train": {
        "epochs": 2,
        "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
        "tensorboard": False,
    },
}
RESNET = {"model": {"name": "resnet", "depth": 8, "width": 0.25}}
# Each epoch ends with a batch of one example, which two replicas have to share. It lies on the edge
# of each ReLU, where rounding decides: large rates let that grow.
SMALL = {
    "model": {"name": "dense", "units": [8]},
    "data.train_size": 449,
    "train.epochs": 3,
    "train.optimizer.learning_rate": 0.005,
}
OWN = """
import keras


def build(norm, synchronized):
    arguments = {"synchronized": synchronized}
    if norm == "keras":
        layer = keras.layers.BatchNormalization
    else:
        from bnzoo import BatchNormalization as layer
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3)(inputs)
    x = keras.layers.ReLU()(layer(**arguments)(x))
    x = keras.layers.ReLU()(layer(**arguments)(keras.layers.Conv2D(8, 3)(x)))
    outputs = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs)
"""


def config_of(changes):
    """The small config with dotted keys changed."""
    from bnzoo import config

    return config.validate(config.apply_overrides(TREE, list(changes.items())), source="test")


def two_devices():
    """Let TensorFlow have two devices, as a machine with two GPUs has."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def pair(folder, name, changes, lines=None):
    """Train a config in one process alone, and on two replicas of it."""
    from bnzoo.training import start_afresh, train

    for way in ("none", "mirrored"):
        start_afresh()
        announce = (lines if lines is not None and way == "mirrored" else []).append
        train(
            config_of({**changes, "train.distribute": way}),
            folder / f"{name}-{way}",
            announce=announce,
        )


def stopped_and_resumed(folder):
    """Interrupt a run on two replicas in its second epoch, refuse other replicas, and resume it."""
    import keras

    from bnzoo.errors import InputError
    from bnzoo.training import start_afresh, train

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    changed, out = config_of({**SMALL, "train.distribute": "mirrored"}), folder / "resumed"
    with contextlib.suppress(KeyboardInterrupt):
        train(changed, out, callbacks=[Stop()])
    text = (out / "data.json").read_text()
    others = json.loads(text) | {"replicas": {"processes": 2, "replicas": 4}}
    (out / "data.json").write_text(json.dumps(others))
    try:
        train(changed, out, resume=True)
    except InputError as error:
        (folder / "refused.txt").write_text(str(error))
    (out / "data.json").write_text(text)
    start_afresh()
    train(changed, out, resume=True)


def mirrored(folder):
    """What the default suite looks at: one start of TensorFlow."""
    two_devices()
    pair(folder, "three_conv", {})
    pair(folder, "dense", SMALL)
    stopped_and_resumed(folder)


def more_mirrored(folder):
    """What takes longer."""
    two_devices()
    (folder / "models.py").write_text(OWN)
    own = f"{folder / 'models.py'}:build"
    lines = []
    pair(folder, "resnet", RESNET)
    pair(folder, "half", {"train.precision": "mixed_float16"})
    pair(folder, "clipped", {"train.optimizer.global_clipnorm": 0.1})
    pair(folder, "recalibrated", {"train.recalibrate": 64, "train.early_stopping": {"patience": 1}})
    for norm in ("keras", "bnzoo"):
        params = {"norm": norm, "synchronized": True}
        even = {"model": {"name": own, "params": params}, "data.train_size": 480}
        pair(folder, f"even-{norm}", even)
        pair(folder, f"uneven-{norm}", {**even, "data.train_size": 461}, lines)
    backbone = {"name": "keras.applications:MobileNetV2", "params": {"alpha": 0.35}}
    large = {"data.image_size": [32, 32], "data.color_mode": "rgb", "data.train_size": 64}
    pair(folder, "backbone", {"model": backbone, **large, "train.epochs": 1})
    (folder / "lines.txt").write_text("\n".join(lines))


def worker(folder, norm):
    """Be one of two processes, and write down what its own moving statistics are in the end."""
    from bnzoo.training import building, distribution
    from bnzoo.training.settings import run_settings

    replicas = distribution.Replicas("multi_worker")
    model = {"name": f"{folder / 'models.py'}:build"}
    params = {"norm": norm, "synchronized": True}
    changed = config_of(
        {
            "model": {**model, "params": params},
            "train.distribute": "multi_worker",
            "train.epochs": 1,
        }
    )
    with run_settings(changed):
        splits = building.load_data(changed)
        model = building.build_for(changed, splits, replicas)
        replicas.prepare(model, building.first_batch(splits.train))
        splits.begin_epoch(0)
        model.fit(replicas.share(splits.train), verbose=0, shuffle=False)
    np.savez(folder / f"{norm}-{replicas.cluster.worker}.npz", *model.get_weights())


if __name__ == "__main__":
    what, path, *more = sys.argv[1:]
    globals()[what](Path(path), *more)
