"""Compare `model.fit` from our pipeline with `model.fit` from a cached in-memory tensor data set.

    BNZOO_DATA_DIR=... python scripts/bench_pipeline.py --epochs 7

Both feed the same model in one process, whole epochs in turn, and each pair of epochs swaps who
goes first. The first epoch of each is thrown away: it holds the compilation. Steps per second are
taken from the first to the last step of an epoch, validation excluded. Processor time per step is
reported beside them: other work on the machine disturbs it less.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import bnzoo.data
import bnzoo.models
from bnzoo.environment import machine, versions

CASES = {
    "three_conv, devanagari_digits, batch 32": ("three_conv", "devanagari_digits", 32),
    "lenet, cifar10, batch 10": ("lenet", "cifar10", 10),
}

TARGET = 0.95  # of the steps per second of the cached tensors

RESULTS = Path(__file__).parent.parent / "configs" / "results" / "bench_pipeline.json"


class EpochTimer(keras.callbacks.Callback):
    """Measures an epoch between Keras' own calls: seconds of the clock and of all processors."""

    def on_epoch_begin(self, epoch, logs=None):  # noqa: D102
        self.started = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, batch, logs=None):  # noqa: D102
        self.seconds = time.perf_counter() - self.started[0]
        self.processor_seconds = time.process_time() - self.started[1]


def cached_tensors(dataset: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Hold what a data set yields as float32 tensors: the pipeline to compare with."""
    batches = list(dataset.as_numpy_iterator())
    x = np.concatenate([x for x, _ in batches])
    y = np.concatenate([y for _, y in batches])
    tensors = tf.data.Dataset.from_tensor_slices((x, y)).cache().shuffle(len(x))
    return tensors.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def measure(model: keras.Model, dataset: tf.data.Dataset) -> tuple[float, float]:
    """Train one epoch; return steps per second and processor milliseconds per step."""
    timer = EpochTimer()
    model.fit(dataset, verbose=0, shuffle=False, callbacks=[timer])
    num_steps = len(dataset)
    return num_steps / timer.seconds, 1e3 * timer.processor_seconds / num_steps


def run_case(model_name: str, data_name: str, batch_size: int, epochs: int) -> dict:
    keras.utils.set_random_seed(0)
    splits = bnzoo.data.load(data_name, batch_size=batch_size, validation="none")
    contenders = {"ours": splits.train, "cached": cached_tensors(splits.train, batch_size)}
    model = bnzoo.models.build(model_name)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), loss, metrics=["accuracy"])
    for dataset in contenders.values():
        measure(model, dataset)
    rates, costs = ({name: [] for name in contenders} for _ in range(2))
    for epoch in range(epochs):
        for name in sorted(contenders, reverse=bool(epoch % 2)):
            rate, cost = measure(model, contenders[name])
            rates[name].append(rate)
            costs[name].append(cost)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    pairs = [ours / cached for ours, cached in zip(rates["ours"], rates["cached"], strict=True)]
    return {
        "steps_per_second": rates,
        "median_steps_per_second": medians,
        "ratio_of_medians": medians["ours"] / medians["cached"],
        "median_ratio_of_pairs": statistics.median(pairs),
        "median_processor_ms_per_step": {
            name: statistics.median(values) for name, values in costs.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=7, help="measured epochs of each pipeline")
    parser.add_argument("--case", choices=list(CASES), action="append", help="default: all")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = {}
    for case in arguments.case or CASES:
        results[case] = run_case(*CASES[case], arguments.epochs)
    report = {
        "command": " ".join(["python", "scripts/bench_pipeline.py", *sys.argv[1:]]),
        "machine": {**machine(), "load": os.getloadavg()[0]},
        "versions": versions(),
        "target_ratio": TARGET,
        "cases": results,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print("medians: steps per second, their ratio, processor milliseconds per step")
    print(f"{'case':42} {'ours':>9} {'cached':>9} {'ratio':>7} {'ours':>9} {'cached':>9}")
    for case, result in results.items():
        rate, ratio = result["median_steps_per_second"], result["ratio_of_medians"]
        cost = result["median_processor_ms_per_step"]
        verdict = "" if ratio >= TARGET else f"   below {TARGET}"
        steps = f"{rate['ours']:9.1f} {rate['cached']:9.1f} {ratio:7.3f}"
        print(f"{case:42} {steps} {cost['ours']:9.2f} {cost['cached']:9.2f}{verdict}")


if __name__ == "__main__":
    main()
