"""Time a `model.fit` step of the zoo's networks with our layer, Keras' layer and none.

    python scripts/bench_model.py
    python scripts/bench_model.py --case three_conv --seconds 10

Each contender is the same network, trained by `fit` on the same batches in memory, a few steps at a
time, in turn and in random order; medians; the first steps, which hold the compilation, are not
counted. PyTorch (where installed) trains three_conv as well, in its channels-last format.
"""

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import keras
import numpy as np
import tensorflow as tf
from timing import interleave, origin

import bnzoo.models
from bnzoo.models import blocks

RESULTS = Path(__file__).parent.parent / "configs" / "results" / "bench_model.json"
STEPS = 8  # measured in one call of `fit`

# name, parameters, input shape, batch, compiled by XLA, least speed against Keras' layer
CASES = (
    ("three_conv", {}, (32, 32, 1), 128, False, 1.6),
    ("three_conv", {}, (32, 32, 1), 32, False, 1.2),
    ("lenet", {}, (32, 32, 3), 128, False, None),
    ("conv1d", {"classes": 10}, (128, 256), 64, False, None),
    ("dense", {}, (784,), 32, False, None),
    ("three_conv", {}, (32, 32, 1), 32, True, 0.95),
    ("conv1d", {"classes": 10}, (128, 256), 64, True, 0.95),
    ("dense", {}, (784,), 32, True, 0.95),
)


def name_of(case: tuple) -> str:
    """Return what the table calls a case."""
    name, _, _, batch, xla, _ = case
    return f"{name}, batch {batch}, {'jit' if xla else 'graph'}"


def keras_fit(case: tuple, layer: type | None) -> Callable[[], None]:
    """Return a call of `fit` for a few steps of a network with a kind of normalization layer."""
    name, parameters, shape, batch, xla, _ = case
    keras.utils.set_random_seed(0)
    ours = blocks.BatchNormalization
    blocks.BatchNormalization = layer or ours
    try:
        placement = "before" if layer else "none"
        model = bnzoo.models.build(name, placement, input_shape=shape, **parameters)
    finally:
        blocks.BatchNormalization = ours
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), loss, jit_compile=xla)
    random = np.random.default_rng(0)
    x = random.normal(size=((STEPS + 1) * batch, *shape)).astype("float32")
    y = random.integers(0, 10, (STEPS + 1) * batch)
    # Batches of unknown size, as data sets give them.
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch).cache()
    timer = StepTimer()

    def steps():
        model.fit(data, verbose=0, shuffle=False, callbacks=[timer])
        return timer.milliseconds

    return steps


class StepTimer(keras.callbacks.Callback):
    """Measures from the end of the first step to the end of the last: no start of an epoch."""

    def on_train_batch_end(self, batch, logs=None):  # noqa: D102
        if batch == 0:
            self.started = time.perf_counter()
        self.milliseconds = 1e3 * (time.perf_counter() - self.started)


class KerasLayer(keras.layers.BatchNormalization):
    """Keras' layer, with the arguments that ours has beside Keras'."""

    def __init__(self, implementation=None, virtual_batch_size=None, **arguments):
        arguments.pop("unbiased_moving_variance", None)
        super().__init__(**arguments)


def torch_fit(batch: int, normalize: bool) -> Callable[[], None]:
    """Return a few steps of three_conv in PyTorch."""
    import torch

    layers, channels = [], 1
    for _ in range(3):
        layers.append(torch.nn.Conv2d(channels, 16, 3, padding="same"))
        layers += [torch.nn.BatchNorm2d(16)] if normalize else []
        layers.append(torch.nn.ReLU())
        channels = 16
    layers += [torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(16 * 16 * 16, 10)]
    model = torch.nn.Sequential(*layers).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    loss = torch.nn.CrossEntropyLoss()
    x = torch.randn(batch, 1, 32, 32).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (batch,))

    def steps():
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()

    return steps


def run_case(case: tuple, seconds: float) -> dict:
    """Return the median milliseconds of a step, by contender."""
    layers = {"ours": bnzoo.BatchNormalization, "keras": KerasLayer, "none": None}
    contenders = {name: keras_fit(case, layer) for name, layer in layers.items()}
    if case[0] == "three_conv" and not case[4] and importlib.util.find_spec("torch"):
        contenders |= {
            "pytorch": torch_fit(case[3], True),
            "pytorch none": torch_fit(case[3], False),
        }
    times = interleave(contenders, seconds)
    return {
        "name": name_of(case),
        "target": case[5],
        "ms_per_step": {name: value / STEPS for name, value in times.items()},
    }


def line(result: dict) -> str:
    """Return one row of the table."""
    ms = result["ms_per_step"]
    cells = [f"{ms[name]:9.2f}" if name in ms else "        -" for name in HEAD]
    ratio, share = ms["keras"] / ms["ours"], ms["ours"] / ms["none"] - 1
    target = f"{result['target']:6.2f}x" if result["target"] else "      -"
    return f"{result['name']:28} {' '.join(cells)} {ratio:7.2f}x {target} {100 * share:+7.0f} %"


HEAD = ("ours", "keras", "none", "pytorch", "pytorch none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15, help="for each case")
    parser.add_argument("--case", help="only cases whose name holds this")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    cases = [case for case in CASES if not arguments.case or arguments.case in name_of(case)]
    print(f"{'ms per step':28}", *(f"{name:>9}" for name in HEAD), " / keras  target  over none")
    results = []
    for case in cases:
        results.append(run_case(case, arguments.seconds))
        print(line(results[-1]), flush=True)
    report = {**origin(), "seconds": arguments.seconds, "steps_per_call": STEPS, "cases": results}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
