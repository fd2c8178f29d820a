"""Test accuracy by the size of the batch: which statistics serve inference best.

    BNZOO_DATA_DIR=... python scripts/statistics_by_batch.py --seeds 3

One small network (VGG6: conv 16, 16, M, 32, 32, M, 64, 64, M, global average pooling, dense 10) on
8,192 images of CIFAR-10, standardized per channel, 3 epochs of SGD with momentum 0.9, rate
0.1 * batch / 128 with cosine decay, momentum 0.9 of the moving averages. The same trained network
is measured with its moving averages, recalibrated, and recalibrated layer by layer, on all 10,000
test images. Group normalization is trained the same way. Ghosts of each size are trained in batches
of 128, so that the number of steps does not change with them. Results are written after each run
and an interrupted call goes on. `make_results.py` makes the table.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import bnzoo
import bnzoo.data
from bnzoo.environment import machine, versions
from bnzoo.files import write_atomically

RESULTS = Path(__file__).parent.parent / "configs" / "results" / "statistics_by_batch.json"
SIZES = (2, 4, 8, 16, 32, 64, 128)
IMAGES, EPOCHS, LARGEST, SAMPLES = 8192, 3, 128, 4096
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def images() -> tuple:
    """Return training and test images, standardized by the training ones, and their labels."""
    splits = bnzoo.data.load("cifar10", batch_size=1000)
    parts = []
    for split, count in ((splits.train, IMAGES), (splits.test, 10_000)):
        pairs = split.take(-(-count // 1000)).as_numpy_iterator()
        parts.append([np.concatenate(one)[:count] for one in zip(*pairs, strict=True)])
    (x, y), (x_test, y_test) = parts
    mean, stddev = x.mean((0, 1, 2)), x.std((0, 1, 2))
    return ((x - mean) / stddev, y), ((x_test - mean) / stddev, y_test)


def network(virtual_batch_size: int | None = None) -> keras.Model:
    """Build VGG6 with batch normalization before each ReLU."""
    x = inputs = keras.Input((32, 32, 3))
    for filters in (16, 32, 64):
        for _ in range(2):
            x = layers.Conv2D(
                filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal"
            )(x)
            x = bnzoo.BatchNormalization(momentum=0.9, virtual_batch_size=virtual_batch_size)(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def trained(kind: str, size: int, seed: int, train: tuple) -> tuple:
    """Train a network; return it and its batches."""
    keras.utils.set_random_seed(seed)
    model = network(size if kind == "ghosts" else None)
    if kind == "group_norm":
        model = bnzoo.replace_batch_norm(model, to="group_norm", groups=8)
    batch = LARGEST if kind == "ghosts" else size
    batches = tf.data.Dataset.from_tensor_slices(train).shuffle(IMAGES, seed=seed)
    batches = batches.batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    steps = EPOCHS * (IMAGES // batch)
    rate = keras.optimizers.schedules.CosineDecay(0.1 * batch / LARGEST, steps)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), LOSS, metrics=["accuracy"])
    model.fit(batches, epochs=EPOCHS, verbose=0)
    return model, batches


def measure(kind: str, size: int, seed: int, train: tuple, test: tuple) -> dict[str, float]:
    """Return test accuracies by the statistics that inference uses."""
    model, batches = trained(kind, size, seed, train)

    def accuracy():
        return float(model.evaluate(*test, batch_size=500, verbose=0)[1])

    found = {kind: accuracy()}
    if kind == "moving_average":
        bnzoo.recalibrate(model, batches, SAMPLES)
        found["recalibrated"] = accuracy()
        bnzoo.recalibrate(model, batches, SAMPLES, layer_by_layer=True)
        found["layer_by_layer"] = accuracy()
    return found


def main() -> None:
    """Measure what is missing, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    done = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else {}
    train, test = images()
    for seed in range(seeds):
        for size in sorted(SIZES, reverse=True):
            for kind in ("moving_average", "ghosts", "group_norm"):
                name = f"{kind} {size} seed {seed}"
                if name in done or (kind == "ghosts" and size == LARGEST):
                    continue
                keras.backend.clear_session()
                done[name] = measure(kind, size, seed, train, test)
                print(name, done[name], flush=True)
                result = {
                    "command": f"python scripts/statistics_by_batch.py --seeds {seeds}",
                    "machine": machine(),
                    "versions": versions(),
                    "runs": done,
                }
                write_atomically(RESULTS, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
