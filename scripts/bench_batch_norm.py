"""Time the layer against Keras 3, Keras 2, PyTorch and the bandwidth of the memory.

    python scripts/bench_batch_norm.py                          # TensorFlow, this machine
    KERAS_BACKEND=jax python scripts/bench_batch_norm.py        # JAX: its GPU, if it has one
    python scripts/bench_batch_norm.py --case jit --seconds 1   # cases whose name holds a word

Keras 2 (`pip install tf_keras`) and PyTorch are measured where they are installed. All contenders
of a case run in one process, in turn and in random order; medians; compilation is not counted.
"copy" is eight passes over the activation (forward reads x twice and writes y, backward reads x and
dy twice and writes dx) at the bandwidth of copying as much memory in the same run, by all cores.
"""

import argparse
import importlib.util
import json
import math
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# PyTorch's threads would spin on both cores while it is TensorFlow's turn.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import bench_steps
import keras
from timing import interleave, origin

from bnzoo import BatchNormalization
from bnzoo.ops.kernels import on_gpu

RESULTS = Path(__file__).parent.parent / "configs" / "results"
BACKEND = keras.backend.backend()


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        kind: `"train"`, `"forward"` (of training) or `"infer"`.
        shape: of the input.
        chain: layers in a row, with ReLU between; times are for one.
        axis: the channel axis.
        dtype: of input and output.
        batch_unknown: traced with a batch of None.
        xla: under `jit_compile=True`.
        target: how many times the speed of Keras 3 is aimed at, or None.
    """

    kind: str
    shape: tuple[int, ...]
    chain: int = 1
    axis: int = -1
    dtype: str = "float32"
    batch_unknown: bool = False
    xla: bool = False
    target: float | None = None

    @property
    def training(self) -> bool:
        """Whether batch statistics are used."""
        return self.kind != "infer"

    @property
    def bytes(self) -> int:
        """Size of the activation."""
        return math.prod(self.shape) * (2 if self.dtype != "float32" else 4)

    @property
    def name(self) -> str:
        """What the table calls it."""
        mode = "jit" if self.xla else "graph"
        batch = ", batch None" if self.batch_unknown else ""
        axis = "" if self.axis == -1 else f", axis={self.axis}"
        shape = "x".join(map(str, self.shape))
        return f"{self.kind} {shape}{axis} {self.dtype}, {mode}{batch}"


LARGE = {(128, 32, 32, 64): 4.8, (32, 56, 56, 64): 4.2, (128, 56, 56, 64): None}
SMALL = {
    (32, 32, 32, 16): 2.4,
    (64, 126, 64): 1.9,
    (256, 1024): 1.75,
    (32, 256): None,
    (32, 64): 1.0,
}
ODD = ((128, 32, 32, 6), (64, 32, 32, 3), (32, 32, 32, 17), (128, 102))
FIRST = {(128, 64, 32, 32): 2.0, (32, 64, 56, 56): 2.0, (32, 16, 32, 32): None}
CASES = [
    *(Case("train", shape, target=target) for shape, target in LARGE.items()),
    *(Case("train", shape, chain=8, target=target) for shape, target in SMALL.items()),
    *(Case("train", shape, chain=4) for shape in ODD),
    *(Case("train", shape, axis=1, target=target) for shape, target in FIRST.items()),
    *(Case("train", shape, batch_unknown=True, target=t) for shape, t in list(LARGE.items())[:1]),
    *(Case("train", shape, 8, batch_unknown=True, target=t) for shape, t in SMALL.items()),
    Case("train", (128, 32, 32, 64), dtype="bfloat16", target=7.0),
    Case("train", (32, 32, 32, 16), chain=8, dtype="bfloat16"),
    Case("train", (128, 32, 32, 64), dtype="float16"),
    *(Case("train", shape, xla=True, target=1.1) for shape in list(LARGE)[:2]),
    *(Case("train", shape, chain=8, xla=True) for shape in SMALL),
    *(Case("forward", shape) for shape in list(LARGE)[:2]),
    *(Case("infer", shape) for shape in list(LARGE)[:2]),
    *(Case("infer", shape, chain=8) for shape in SMALL),
]
# Activations of 0.1 to 3.2 GB: past every cache of a GPU.
MEMORY_SIZED = [
    Case("train", shape, dtype=dtype, xla=True, target=1.2)
    for shape in ((128, 56, 56, 64), (512, 56, 56, 128), (1024, 56, 56, 256))
    for dtype in ("float32", "bfloat16")
]


def contenders(case: Case) -> dict:
    """Return what to call for a case, by name."""
    ours = {"ours": partial(BatchNormalization, dtype=case.dtype)}
    if case.kind == "train" and not case.batch_unknown and BACKEND == "tensorflow":
        for implementation in ("reference", "xla"):
            how = {"dtype": case.dtype, "implementation": implementation}
            ours[implementation] = partial(BatchNormalization, **how)
    layers = {**ours, "keras 3": partial(keras.layers.BatchNormalization, dtype=case.dtype)}
    if BACKEND == "jax":
        found = {name: bench_steps.jax_step(make, case) for name, make in layers.items()}
        return found | {"copy": bench_steps.jax_copy(case)}
    if importlib.util.find_spec("tf_keras"):
        import tf_keras

        # Keras 2 keeps float32 weights only in a mixed policy.
        dtype = case.dtype if case.dtype == "float32" else f"mixed_{case.dtype}"
        layers["keras 2"] = partial(tf_keras.layers.BatchNormalization, dtype=dtype)
    found = {name: bench_steps.tensorflow_step(make, case) for name, make in layers.items()}
    if importlib.util.find_spec("torch") and case.dtype == "float32" and not case.xla:
        found["pytorch"] = bench_steps.torch_step(case)
    return found | {"copy": bench_steps.memory_copy(case.bytes)}


def measure(case: Case, seconds: float) -> dict:
    """Return a case with its median milliseconds per layer, by contender."""
    times = interleave(contenders(case), seconds)
    copy = times.pop("copy")
    return {
        **asdict(case),
        "name": case.name,
        "ms": {name: value / case.chain for name, value in times.items()},
        "copy_ms": 4 * copy,
        "copy_gb_per_second": 2 * case.bytes / copy / 1e6,
    }


def line(result: dict) -> str:
    """Return one row of the table."""
    ms = result["ms"]
    ratios = [
        f"{ms[name] / ms['ours']:6.2f}x" if name in ms else "      -"
        for name in ("keras 3", "keras 2", "pytorch", "reference", "xla")
    ]
    target = f"{result['target']:5.2f}x" if result["target"] else "     -"
    passes = f"{ms['ours'] / result['copy_ms']:6.2f}" if result["kind"] == "train" else "     -"
    return f"{result['name']:52} {ms['ours']:8.3f} {' '.join(ratios)} {target} {passes}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4, help="for each case")
    parser.add_argument("--case", help="only cases whose name holds this")
    parser.add_argument("--memory-sized", action="store_true", help="activations for a GPU instead")
    parser.add_argument("--out", type=Path, help="default: in configs/results/")
    arguments = parser.parse_args()
    gpu = on_gpu()
    cases = MEMORY_SIZED if arguments.memory_sized else CASES
    if BACKEND == "jax":
        cases = [case for case in cases if case.xla or case.kind != "train"]
    cases = [case for case in cases if not arguments.case or arguments.case in case.name]
    head = ("keras 3", "keras 2", "pytorch", "refer.", "xla", "target", "/ copy")
    print(f"{'speed of ours, in multiples of':52} {'ours ms':>8}", *(f"{h:>7}" for h in head))
    results = []
    for case in cases:
        results.append(measure(case, arguments.seconds))
        print(line(results[-1]), flush=True)
    name = "_".join(["bench_batch_norm", BACKEND, *(["gpu"] if gpu else [])])
    out = arguments.out or RESULTS / f"{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    report = {**origin(), "backend": BACKEND, "gpu": gpu, "seconds": arguments.seconds}
    out.write_text(json.dumps({**report, "cases": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
