"""Count what a training step reads and writes on a GPU, without a GPU.

    python scripts/gpu_passes.py
    python scripts/gpu_passes.py --framework jax --contender ours --case 256x56x56x64

XLA compiles the step (forward, backward and the moving statistics) for the described device
(`pip install bnzoo[gpu-check]`); kernels and their operands are read from the scheduled program.
The least for one layer is 8 times the bytes of x: forward reads x twice and writes y, backward
reads x and dy twice and writes dx. TensorFlow's rows are its HLO under JAX's compiler, a slightly
different version of XLA. No convolution is tuned. Bytes take no time where all fits into the cache.
"""

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import hlo_bytes
from timing import origin

from bnzoo.environment import versions
from bnzoo.quiet import start_tensorflow_quietly

REPOSITORY = Path(__file__).parent.parent
TARGET = Path("..") / "shared" / "gpu" / "h200.txtpb"  # from the repository
FRAMEWORKS = ("jax", "tensorflow")
CONTENDERS = ("ours", "keras")
BYTES = {"float32": 4, "bfloat16": 2}
LARGE = ((128, 32, 32, 64), (256, 56, 56, 64), (256, 112, 112, 64), (256, 14, 14, 1024))
SMALL = ((128, 32, 32, 16), (32, 14, 14, 256), (256, 1024), (128, 256), (32, 64))
SHAPES = (*LARGE, (4096, 1024), *SMALL)
BLOCKS = (("residual", (256, 56, 56, 64)), ("bottleneck", (256, 14, 14, 1024)))


def cases() -> list:
    """Return what is compiled with each framework and contender."""
    from gpu_steps import Case

    single = [Case("layer", *each) for each in itertools.product(SHAPES, BYTES, (False, True))]
    return single + [Case(*block, dtype) for block in BLOCKS for dtype in BYTES]


def count(text: str, elements: int, dtype: str) -> dict:
    """Return kernels, bytes and passes of a compiled module, without its convolutions.

    Args:
        text: of the module.
        elements: of x. Reads and writes of as many count as passes, whatever their dtype.
        dtype: of x.
    """
    bytes_of_x = elements * BYTES[dtype]
    every = hlo_bytes.kernels(text)
    convolutions = [kernel for kernel in every if kernel.convolves]
    kernels = [kernel for kernel in every if not kernel.convolves]
    return {
        "kernels": len(kernels),
        "bytes_over_x": _over(kernels, bytes_of_x),
        "reads": sum(part.elements >= elements for each in kernels for part in each.reads),
        "writes": sum(part.elements >= elements for each in kernels for part in each.writes),
        "convolutions": len(convolutions),
        "bytes_of_convolutions_over_x": _over(convolutions, bytes_of_x),
    }


def _over(kernels, bytes_of_x):
    return round(sum(kernel.bytes for kernel in kernels) / bytes_of_x, 3)


def measure(framework: str, arguments: argparse.Namespace) -> list[dict]:
    """Return the rows of one framework, which becomes Keras' backend in this process."""
    os.environ["KERAS_BACKEND"] = framework
    os.environ["JAX_PLATFORMS"] = "cpu"
    start_tensorflow_quietly()  # Keras imports it with JAX too
    try:
        from gpu_compiler import Compiler

        compiler = Compiler(arguments.target)
    except (FileNotFoundError, ModuleNotFoundError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    from gpu_steps import program

    print(HEAD, flush=True)
    rows = []
    for case, contender in itertools.product(cases(), CONTENDERS):
        if arguments.case not in case.name or arguments.contender not in ("all", contender):
            continue
        text = program(framework, case, contender, compiler)
        if arguments.text:
            name = f"{framework} {contender} {case.name}.txt".replace(" ", "_")
            arguments.text.mkdir(parents=True, exist_ok=True)
            (arguments.text / name).write_text(text)
        counts = count(text, math.prod(case.shape), case.dtype)
        rows.append({"framework": framework, "contender": contender, **asdict(case), **counts})
        print(line(rows[-1], case.name), flush=True)
        if arguments.kernels:
            print(*kernel_lines(text, math.prod(case.shape) * BYTES[case.dtype]), sep="\n")
    return rows


HEAD = f"{'':54} kernels  bytes/x  reads writes  convolutions"


def line(row: dict, name: str) -> str:
    """Return one line of the table."""
    convolutions = ""
    if row["convolutions"]:
        convolutions = f"{row['convolutions']:4} {row['bytes_of_convolutions_over_x']:8.2f}"
    return (
        f"{row['framework']:10} {row['contender']:6} {name:36} {row['kernels']:7} "
        f"{row['bytes_over_x']:8.2f} {row['reads']:6} {row['writes']:6} {convolutions}"
    ).rstrip()


def kernel_lines(text: str, bytes_of_x: int) -> list[str]:
    """Return one line for each kernel that moves a hundredth of x, with its large parts."""
    lines = []
    for kernel in hlo_bytes.kernels(text):
        reads, writes = (
            [f"{part.bytes / bytes_of_x:.2f}" for part in parts if 100 * part.bytes >= bytes_of_x]
            for parts in (kernel.reads, kernel.writes)
        )
        if reads or writes:
            how = f"reads {' + '.join(reads) or 0}, writes {' + '.join(writes) or 0}"
            lines.append(f"    {kernel.name}: {how}")
    return lines


def measure_apart(framework: str) -> list[dict]:
    """Return the rows of one framework from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, __file__, *sys.argv[1:], "--framework", framework]
        done = subprocess.run([*command, "--out", str(file)])
        if done.returncode:
            sys.exit(done.returncode)
        return json.loads(file.read_text())["cases"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--target", type=Path, default=REPOSITORY / TARGET, help="describes the GPU"
    )
    parser.add_argument("--framework", choices=[*FRAMEWORKS, "all"], default="all")
    parser.add_argument("--contender", choices=[*CONTENDERS, "all"], default="all")
    parser.add_argument("--case", default="", help="only cases whose name holds this")
    parser.add_argument("--out", type=Path, help="file for the rows, as JSON")
    parser.add_argument("--kernels", action="store_true", help="what each kernel moves, over x")
    parser.add_argument("--text", type=Path, help="folder for the compiled programs")
    arguments = parser.parse_args()
    if arguments.framework == "all":
        rows = [row for framework in FRAMEWORKS for row in measure_apart(framework)]
    else:
        rows = measure(arguments.framework, arguments)
    if arguments.out:
        used = versions("jax", "jaxlib", "jax-cuda12-plugin")
        report = {**origin(), "versions": used, "target": arguments.target.name, "cases": rows}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
