"""Measure the memory of long work: a study of 50 runs, and a folder of 4 GB of images.

    python scripts/bench_memory.py

Study: the resident size of the process after each run of `bnzoo.studies.compare`, and at its end.
Folder: images of random pixels are written into a temporary folder, 4 GB that PNG cannot make
smaller, and one whole command `bnzoo train` decodes them batch by batch, as they are too many to be
kept; its largest resident size is what the system counted. The disk must have room three times
over.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from bench_tune import DIGITS, PLACEMENT, resident_megabytes
from PIL import Image
from recorded import RESULTS

from bnzoo.config import as_yaml, validate
from bnzoo.environment import machine, versions

ALLOWED_GROWTH, ALLOWED_PEAK = 100, 1536  # megabytes: of a study, of a folder
SIDE = 256  # pixels of an image: a file of 0.2 MB


def study(runs: int, folder: Path) -> dict:
    """Return the resident size after each run of a study of two variants."""
    from bnzoo.studies import compare

    section = {"variants": {"before": {PLACEMENT: "before"}}, "seeds": list(range(runs // 2))}
    tree = {**DIGITS, "train": {**DIGITS["train"], "epochs": 1}}
    tree |= {"compare": {"baseline": {PLACEMENT: "none"}, **section}}
    found: list[float] = []

    def note(position: int, total: int, label: str) -> None:
        if position > 1:
            found.append(resident_megabytes())

    compare(validate(tree, source="bench_memory"), folder / "study", begin_run=note)
    found.append(resident_megabytes())  # with the report
    return {
        "megabytes": [round(one, 1) for one in found],
        "growth_from_3_to_the_end": found[-1] - found[2],
        "allowed": ALLOWED_GROWTH,
    }


def write_images(folder: Path, gigabytes: float) -> int:
    """Write a folder of images of random pixels, and return its bytes."""
    random, size, number = np.random.default_rng(0), 0, 0
    while size < gigabytes * 1e9:
        split, name = ("test", "train", "train", "train")[number // 2 % 4], "ab"[number % 2]
        file = folder / split / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), "uint8")
        Image.fromarray(pixels).save(file, compress_level=0)
        size, number = size + file.stat().st_size, number + 1
    return size


def image_folder(gigabytes: float, folder: Path) -> dict:
    """Return the largest resident size of a command that trains on a folder of images."""
    if shutil.disk_usage(folder).free < 3 * gigabytes * 1e9:
        raise SystemExit(f"{folder}: no room for {gigabytes:g} GB of images")
    size = write_images(folder / "images", gigabytes)
    tree = {
        "data": {"name": f"folder:{folder / 'images'}", "batch_size": 32},
        "model": {"name": "dense", "units": [4]},
        "train": {"epochs": 1, "tensorboard": False},
    }
    (folder / "images.yaml").write_text(as_yaml(tree))
    words = ["train", folder / "images.yaml", "--out", folder / "run"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "bnzoo", *map(str, words)], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"bnzoo train ended with {os.waitstatus_to_exitcode(status)}")
    return {
        "bytes": size,
        "files": sum(1 for _ in (folder / "images").rglob("*.png")),
        "seconds": round(time.perf_counter() - started, 1),
        "peak_megabytes": round(used.ru_maxrss / 1024, 1),
        "allowed": ALLOWED_PEAK,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["study", "folder"], help="default: both")
    parser.add_argument("--runs", type=int, default=50, help="of the study")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of the folder")
    parser.add_argument("--out", type=Path, default=RESULTS / "bench_memory.json")
    arguments = parser.parse_args()
    words = " ".join(["python", "scripts/bench_memory.py", *sys.argv[1:]])
    report = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as name:
        cases = {
            "study": lambda: study(arguments.runs, Path(name)),
            "folder": lambda: image_folder(arguments.gigabytes, Path(name)),
        }
        for case in [arguments.only] if arguments.only else cases:
            report[case] = {"command": words, **cases[case]()}
            print(case, json.dumps(report[case]), flush=True)
    report |= {"machine": machine(), "versions": versions()}
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
