"""Time a `model.fit` step of whole networks with our layer, Keras' layer and none.

    python scripts/bench_model.py
    python scripts/bench_model.py --case "MobileNetV2 96" --seconds 10
    python scripts/bench_model.py --case three_conv --against ../other_checkout

Each contender is the same network, trained by `fit` on the same batches in memory, a few steps at a
time, in turn and in random order; medians; the first steps, which hold the compilation, are not
counted. The networks are the zoo's and some of keras.applications. Keras 2 (`pip install tf_keras`)
trains its own build of the latter, and PyTorch three_conv in its channels-last format, where they
are installed. Beside it stands what 8 passes over all normalized activations would take at the
speed at which memory was copied in between: the least that batch normalization has to read and
write.

The cases that were run replace those of the same name in the result file; the others stay.
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
from bench_networks import (
    CASES,
    Case,
    KerasLayer,
    application,
    build,
    layer_of,
    normalized_bytes,
)
from bench_steps import memory_copy
from timing import interleave, origin

import bnzoo

RESULTS = Path(__file__).parent.parent / "configs" / "results" / "bench_model.json"
COPIED = 100_000_000  # bytes: past the processor's caches
HEAD = ("ours", "before", "keras", "keras 2", "none", "pytorch", "pytorch none")


def fit_steps(library, model, case: Case) -> Callable[[], float]:
    """Return a call of `fit` for a few steps.

    Args:
        library: the `keras` or `tf_keras` that the model is of.
        model: not compiled; returns logits of 10 classes.
        case: its batch, its steps and whether XLA compiles them.

    Returns:
        A function that trains and returns the milliseconds of the steps that count.
    """
    loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(library.optimizers.SGD(1e-3), loss, jit_compile=case.xla)
    random, examples = np.random.default_rng(0), (case.steps + 1) * case.batch
    x = random.normal(size=(examples, *case.shape)).astype("float32")
    y = random.integers(0, 10, examples)
    # Batches of unknown size, as data sets give them.
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(case.batch).cache()
    timer = StepTimer()
    callback = library.callbacks.LambdaCallback(on_train_batch_end=timer.on_step)

    def steps():
        model.fit(data, verbose=0, shuffle=False, callbacks=[callback])
        return timer.milliseconds

    return steps


class StepTimer:
    """Measures from the end of the first step to the end of the last: no start of an epoch."""

    def on_step(self, batch, logs):
        """Take the time."""
        if batch == 0:
            self.started = time.perf_counter()
        self.milliseconds = 1e3 * (time.perf_counter() - self.started)


def torch_fit(case: Case, normalize: bool) -> Callable[[], None]:
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
    x = torch.randn(case.batch, 1, 32, 32).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (case.batch,))

    def steps():
        for _ in range(case.steps):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()

    return steps


def other_libraries(case: Case) -> dict[str, Callable]:
    """Return what trains the same network without Keras 3, as far as it is installed."""
    if case.of_keras and importlib.util.find_spec("tf_keras"):
        import tf_keras

        model = application(tf_keras.applications, case)
        return {"keras 2": fit_steps(tf_keras, model, case)}
    if case.network == "three_conv" and not case.xla and importlib.util.find_spec("torch"):
        return {"pytorch": torch_fit(case, True), "pytorch none": torch_fit(case, False)}
    return {}


def eight_passes() -> Callable[[], None]:
    """Return four copies of the same memory, each of which reads it and writes it."""
    copy = memory_copy(COPIED)

    def copies():
        for _ in range(4):
            copy()

    return copies


def run_case(case: Case, seconds: float, before: type | None) -> dict:
    """Return the median milliseconds of a step, by contender, and of 8 passes.

    Args:
        case: what to train.
        seconds: for how long.
        before: another layer to measure, or None.
    """
    layers = {"ours": bnzoo.BatchNormalization, "keras": KerasLayer, "none": None}
    layers |= {"before": before} if before else {}
    models = {name: build(case, layer) for name, layer in layers.items()}
    contenders = {name: fit_steps(keras, model, case) for name, model in models.items()}
    contenders |= other_libraries(case) | {"copy": eight_passes()}
    # A large network's step is long, and settles at once.
    rounds = {"least": 5, "warm_up": 1} if case.of_keras else {}
    times = interleave(contenders, seconds, **rounds)
    copy = times.pop("copy")
    size = normalized_bytes(models["ours"], bnzoo.BatchNormalization, case.batch)
    return {
        "name": case.name,
        "target": case.target,
        "ms_per_step": {name: value / case.steps for name, value in times.items()},
        "passes_ms": copy * size / COPIED,
        "copy_gb_per_second": 8 * COPIED / copy / 1e6,
        "seconds": seconds,
        "steps_per_call": case.steps,
        **origin(),
    }


def line(result: dict) -> str:
    """Return one row of the table."""
    ms = result["ms_per_step"]
    cells = [f"{ms[name]:9.2f}" if name in ms else f"{'-':>9}" for name in HEAD]
    ratio, cost = ms["keras"] / ms["ours"], ms["ours"] - ms["none"]
    target = f"{result['target']:6.2f}x" if result["target"] else f"{'-':>7}"
    return (
        f"{result['name']:36} {' '.join(cells)} {ratio:7.2f}x {target} "
        f"{100 * cost / ms['none']:+9.0f} % {cost:8.2f} {result['passes_ms']:9.2f} "
        f"{result['copy_gb_per_second']:6.1f}"
    )


def record(results: list[dict], file: Path) -> None:
    """Put cases into a result file, in the place of those of the same name."""
    report = json.loads(file.read_text()) if file.exists() else {"cases": []}
    # A file of older days says once for all cases how they were measured.
    shared = {key: value for key, value in report.items() if key != "cases"}
    found = {case["name"]: {**shared, **case} for case in report["cases"]}
    found |= {result["name"]: result for result in results}
    cases = [found[case.name] for case in CASES if case.name in found]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"cases": cases}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=15, help="for each case, or 5 rounds")
    parser.add_argument("--case", help="only cases whose name holds this")
    parser.add_argument(
        "--against", type=Path, help="another checkout of bnzoo: its layer is 'before'"
    )
    parser.add_argument(
        "--out", type=Path, help="default: in configs/results/; none with --against"
    )
    arguments = parser.parse_args()
    before = layer_of(arguments.against) if arguments.against else None
    out = arguments.out or (None if before else RESULTS)
    head = (*HEAD, "/ keras", "target", "over none", "BN's ms", "8 passes", "GB/s")
    widths = (*[9] * len(HEAD), 8, 7, 11, 8, 9, 6)
    cells = (f"{name[:width]:>{width}}" for name, width in zip(head, widths, strict=True))
    print(f"{'ms per step':36}", *cells)
    for case in CASES:
        if not arguments.case or arguments.case in case.name:
            result = run_case(case, arguments.seconds, before)
            print(line(result), flush=True)
            if out:
                record([result], out)


if __name__ == "__main__":
    main()
