"""Train, export and record the experiments of the README, on real data.

    BNZOO_DATA_DIR=... python scripts/run_results.py [NAME ...]

Each is an ordinary `bnzoo train` into runs/results/NAME and an ordinary `bnzoo export`; what came
out is written to configs/results/NAME.json. A run that has ended is not run again.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from bnzoo.runs import RunFolder

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "configs" / "results"
EXAMPLE_IMAGES = "runs/results/images"

EXPERIMENTS = {
    "three_conv_devanagari": ["configs/three_conv_devanagari.yaml"],
    "three_conv_devanagari_none": [
        "configs/three_conv_devanagari.yaml",
        "--set",
        "model.placement=none",
    ],
    "dense_mnist": ["configs/dense_mnist.yaml"],
    "lenet_cifar10": ["configs/lenet_cifar10.yaml"],
    "conv1d_rows": ["configs/conv1d_rows.yaml"],
    "own_images": [
        "configs/own_images.yaml",
        "--set",
        f"data.name=folder:{EXAMPLE_IMAGES}",
    ],
}


def main() -> None:
    for name in sys.argv[1:] or EXPERIMENTS:
        record(name, EXPERIMENTS[name])


def record(name: str, arguments: list[str]) -> None:
    """Run one experiment to its end and write its result file."""
    if name == "own_images" and not (REPOSITORY / EXAMPLE_IMAGES).exists():
        start(sys.executable, "scripts/make_example_images.py", EXAMPLE_IMAGES)
    out = f"runs/results/{name}"
    folder = RunFolder(REPOSITORY / out)
    command = ["train", *arguments, "--out", out]
    resume = ["--resume"] if folder.config_file.exists() else []
    start(sys.executable, "-m", "bnzoo", *command, *resume)
    served = f"runs/results/served/{name}"
    start(sys.executable, "-m", "bnzoo", "export", out, "--out", served)
    versions = sorted(int(path.name) for path in (REPOSITORY / served).iterdir())
    export = json.loads((REPOSITORY / served / str(versions[-1]) / "bnzoo.json").read_text())
    result = {
        "name": name,
        "command": shlex.join(["bnzoo", *command]),
        **folder.summary(),
        "export_parity": export["parity"],
        "config": folder.config().model_dump(mode="json"),
        "history": folder.history(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(dumps(result))


def start(*command: str) -> None:
    print("$", shlex.join(command[1:]), flush=True)
    subprocess.run(command, cwd=REPOSITORY, check=True)


def dumps(result: dict) -> str:
    """Return JSON with one line per epoch, so that differences can be read."""
    history = result.pop("history")
    rows = ",\n    ".join(json.dumps(row) for row in history)
    head = json.dumps(result, indent=2).removesuffix("\n}")
    return f'{head},\n  "history": [\n    {rows}\n  ]\n}}\n'


if __name__ == "__main__":
    main()
