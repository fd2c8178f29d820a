"""Measure which share of a run's time its checkpoints take.

    BNZOO_DATA_DIR=... python scripts/bench_checkpoints.py

Epochs of a shipped config are run, cut to some steps; each ends with a checkpoint, as always. The
time of a whole epoch follows from that of a step, compiling and validation left out: the share is
at most what is said.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from bnzoo.config import load_config, starter_configs
from bnzoo.environment import machine, versions
from bnzoo.training import callbacks, train
from bnzoo.training.building import load_data

RESULTS = Path(__file__).parent.parent / "configs" / "results" / "bench_checkpoints.json"
NAME = "three_conv_devanagari"


class StepTimes(keras.callbacks.Callback):
    """Remembers how long each step took."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Stop it."""
        self.seconds.append(time.perf_counter() - self._started)


def main() -> None:
    """Run some epochs, and write the share down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    file, usual, saved = starter_configs()[NAME], callbacks.save_checkpoint, []

    def timed(*given):
        started = time.perf_counter()
        usual(*given)
        saved.append(time.perf_counter() - started)

    callbacks.save_checkpoint = timed
    cut = [f"train.steps_per_epoch={arguments.steps}", f"train.epochs={arguments.epochs}"]
    config = load_config(file, [*cut, "data.validation=none", "data.test_size=64"])
    steps, times = load_data(load_config(file)).steps_per_epoch, StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        train(config.single_run(), Path(folder) / "run", callbacks=[times])
    seconds, step = statistics.median(saved), statistics.median(times.seconds)
    result = {
        "config": NAME,
        "command": "python scripts/bench_checkpoints.py",
        "repeats": len(saved),
        "seconds": seconds,
        "step_seconds": step,
        "epoch_seconds": step * steps,
        "share": seconds / (step * steps),
        "machine": machine(),
        "versions": versions(),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
