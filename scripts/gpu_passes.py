"""Count what a training step of the layer reads and writes on a GPU, without a GPU.

    python scripts/gpu_passes.py
    python scripts/gpu_passes.py --case 256x56x56x64 --contender ours

XLA compiles the step (forward, backward and the moving statistics) for the described device
(`pip install bnzoo[gpu-check]`); kernels and their operands are read from the scheduled program.
The least is 8 times the bytes of x: forward reads x twice and writes y, backward reads x and dy
twice and writes dx. Bytes are no time where all fits into the cache (50 MB on an H200).
"""

import argparse
import itertools
import json
import math
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["KERAS_BACKEND"] = "jax"

import hlo_bytes
import jax
import keras
from gpu_compiler import Compiler
from timing import origin

import bnzoo

TARGET = Path("..") / "shared" / "gpu" / "h200.txtpb"  # beside the repository
REPOSITORY = Path(__file__).parent.parent
LAYERS = {"ours": bnzoo.BatchNormalization, "keras": keras.layers.BatchNormalization}
LARGE = ((128, 32, 32, 64), (256, 56, 56, 64), (256, 14, 14, 1024), (4096, 1024))
LARGER = ((256, 112, 112, 64),)
SMALL = ((128, 32, 32, 16), (32, 14, 14, 256), (256, 1024), (128, 256), (32, 64))
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@dataclass(frozen=True)
class Case:
    """One program.

    Attributes:
        shape: of x.
        dtype: of x and y; weights are float32.
        relu: whether a ReLU follows.
    """

    shape: tuple[int, ...]
    dtype: str
    relu: bool

    @property
    def name(self) -> str:
        """What the table calls it."""
        relu = " + ReLU" if self.relu else ""
        return f"{'x'.join(map(str, self.shape))} {self.dtype}{relu}"


CASES = [Case(*each) for each in itertools.product(LARGE + LARGER + SMALL, POLICIES, (False, True))]


def jax_step(case: Case, contender: str) -> tuple:
    """Return a training step of one layer, and its arguments."""
    layer = LAYERS[contender](dtype=POLICIES[case.dtype])
    layer.build(case.shape)
    trainable = [variable.value for variable in layer.trainable_variables]
    others = [variable.value for variable in layer.non_trainable_variables]

    def step(trainable, others, x, upstream):
        def forward(trainable, x):
            outputs, updated = layer.stateless_call(trainable, others, x, training=True)
            return keras.ops.relu(outputs) if case.relu else outputs, updated

        outputs, backward, updated = jax.vjp(forward, trainable, x, has_aux=True)
        # The rest of a network is in between; without it, the sums of dy join the forward pass.
        outputs, upstream = jax.lax.optimization_barrier((outputs, upstream))
        return outputs, updated, backward(upstream)

    x = jax.ShapeDtypeStruct(case.shape, case.dtype)
    return step, (trainable, others, x, x)


def count(text: str, elements: int, dtype: str) -> dict:
    """Return kernels, bytes and passes of a compiled module.

    Args:
        text: of the module.
        elements: of x. Reads and writes of as many count as passes, whatever their dtype.
        dtype: of x.
    """
    kernels = hlo_bytes.kernels(text)
    moved = sum(kernel.bytes for kernel in kernels)
    return {
        "kernels": len(kernels),
        "bytes_over_x": round(moved / (elements * jax.numpy.dtype(dtype).itemsize), 3),
        "reads": sum(part.elements >= elements for each in kernels for part in each.reads),
        "writes": sum(part.elements >= elements for each in kernels for part in each.writes),
    }


def run_case(case: Case, contender: str, compiler: Compiler, text_folder: Path | None) -> dict:
    """Return one row."""
    step, arguments = jax_step(case, contender)
    text = compiler.compile(step, *arguments)
    if text_folder:
        text_folder.mkdir(parents=True, exist_ok=True)
        name = f"jax {contender} {case.name}".replace(" ", "_")
        (text_folder / f"{name}.txt").write_text(text)
    counts = count(text, math.prod(case.shape), case.dtype)
    return {"framework": "jax", "contender": contender, **asdict(case), **counts}


def line(row: dict, name: str) -> str:
    """Return one line of the table."""
    return (
        f"{row['framework']:10} {name:34} {row['contender']:6} {row['kernels']:7} "
        f"{row['bytes_over_x']:8.2f} {row['reads']:6} {row['writes']:6}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=Path, default=REPOSITORY / TARGET)
    parser.add_argument("--case", help="only cases whose name holds this")
    parser.add_argument("--contender", choices=list(LAYERS), help="only this one")
    parser.add_argument("--out", type=Path, help="file for the rows, as JSON")
    parser.add_argument("--text", type=Path, help="folder for the compiled programs")
    arguments = parser.parse_args()
    try:
        compiler = Compiler(arguments.target)
    except (FileNotFoundError, ModuleNotFoundError) as error:
        sys.exit(str(error))
    cases = [case for case in CASES if not arguments.case or arguments.case in case.name]
    contenders = [arguments.contender] if arguments.contender else list(LAYERS)
    print(f"{'':52} kernels  bytes/x  reads writes")
    rows = []
    for case, contender in itertools.product(cases, contenders):
        rows.append(run_case(case, contender, compiler, arguments.text))
        print(line(rows[-1], case.name), flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({**origin(), "cases": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
