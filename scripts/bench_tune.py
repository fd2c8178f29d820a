"""Measure what `bnzoo tune` costs beside its runs, what it leaves in memory, what workers gain.

    BNZOO_DATA_DIR=... python scripts/bench_tune.py

Overhead: whole sweeps in one process against the same runs by `bnzoo.training.train` in the same
process, in turn, and against whole `bnzoo train` commands. Memory: the resident size after 3 and
after 30 small trials. Workers: the whole command `bnzoo tune`, start-up and report included, alone
on all cores and with `--workers 2`, in turn; and beside them two plain halves of the runs, each in
a process pinned to a core, which is what the machine has to give. Compare: the whole command
`bnzoo compare`, one run after another on all cores and with `--workers 2`, in turn: the ratio of
their runs per hour.

What was measured before is kept as `others`: a shared machine gives less at some times.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bnzoo.config import (
    as_yaml,
    combinations,
    dump_config,
    space_of,
    trial_config,
    validate,
    values_name,
)
from bnzoo.environment import machine, versions

RESULTS = Path(__file__).parent.parent / "configs" / "results" / "bench_tune.json"
RATE, PLACEMENT = "train.optimizer.learning_rate", "model.placement"
OBJECTIVE = {"name": "val_accuracy", "direction": "max"}
ALLOWED_OVERHEAD, ALLOWED_MEGABYTES, WANTED_SPEEDUP = 0.05, 100, 1.3

THREE_CONV = {
    "data": {"name": "devanagari_digits", "batch_size": 128, "validation": 0.1},
    "model": {"name": "three_conv"},
    "train": {"epochs": 1, "tensorboard": False},
}
DIGITS = {
    "data": {"name": "digits", "batch_size": 64, "validation": 0.2},
    "model": {"name": "three_conv", "filters": [8, 8, 8]},
    "train": {"epochs": 5, "tensorboard": False},
}
PLACEMENTS = ["none", "before", "after"]


def sweep_config(tree: dict, rates: int):
    """Return a grid of so many rates with each placement, as tree and as checked config."""
    span = {"min": 1e-4, "max": 0.1, "steps": rates, "scale": "log"}
    space = {RATE: span, PLACEMENT: PLACEMENTS}
    tree = {**tree, "tune": {"algorithm": "grid", "objective": OBJECTIVE, "space": space}}
    return tree, validate(tree, source="bench_tune")


def seconds_of(function, *arguments) -> float:
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def command(*arguments, cores: set[int] | None = None) -> subprocess.Popen:
    """Start `bnzoo`, on all cores or on some."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bnzoo", *map(str, arguments)], stdout=subprocess.DEVNULL
    )
    if cores:
        os.sched_setaffinity(process.pid, cores)
    return process


def run(*arguments) -> None:
    code = command(*arguments).wait()
    if code:
        raise SystemExit(f"bnzoo {' '.join(map(str, arguments))} ended with {code}")


def overhead(repeats: int, folder: Path) -> dict:
    """Compare sweeps with their runs alone."""
    from bnzoo.training import start_afresh, train
    from bnzoo.tuning.sweep import tune

    _, config = sweep_config(DIGITS, 2)
    values = list(combinations(space_of(config)))

    def runs(out: Path) -> None:
        for one in values:
            start_afresh()
            train(trial_config(config, one, 0), out / values_name(one))

    def commands(out: Path) -> None:
        for one in values:
            path = out / f"{values_name(one)}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(dump_config(trial_config(config, one, 0)))
            run("train", path, "--out", out / values_name(one))

    seconds: dict[str, list[float]] = {"sweep": [], "runs": []}
    contenders = {"sweep": lambda out: tune(config, out), "runs": runs}
    contenders["runs"](folder / "warm")
    for number in range(repeats):
        for name in sorted(contenders, reverse=bool(number % 2)):
            seconds[name].append(seconds_of(contenders[name], folder / f"{name}-{number}"))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    seconds["train commands"] = [seconds_of(commands, folder / "commands")]
    return {
        "trials": len(values),
        "seconds": seconds,
        "overhead": medians["sweep"] / medians["runs"] - 1,
        "allowed": ALLOWED_OVERHEAD,
    }


def resident_megabytes() -> float:
    """Return the resident size of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(folder: Path) -> dict:
    """Return the resident size after each of 30 small trials."""
    from bnzoo.tuning.sweep import Hooks, tune

    tree = {**DIGITS, "train": {**DIGITS["train"], "epochs": 1}}
    _, config = sweep_config(tree, 10)
    found: list[float] = []

    def note(trial, score) -> None:
        found.append(resident_megabytes())

    tune(config, folder / "memory", hooks=Hooks(end_trial=note))
    return {
        "megabytes": [round(one, 1) for one in found],
        "growth_from_3_to_30": found[29] - found[2],
        "allowed": ALLOWED_MEGABYTES,
    }


def in_turn(contenders: dict, repeats: int, folder: Path) -> dict[str, list[float]]:
    """Return the seconds that each takes, all of them once before any a second time."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number, name in itertools.product(range(repeats), contenders):
        out = folder / f"{name.replace(' ', '-')}-{number}"
        seconds[name].append(seconds_of(contenders[name], out))
    return seconds


def workers(repeats: int, folder: Path) -> dict:
    """Compare whole commands: alone, with two workers, and two plain halves."""
    tree, config = sweep_config(THREE_CONV, 8)
    path = folder / "three_conv.yaml"
    path.write_text(as_yaml(tree))
    cores = sorted(os.sched_getaffinity(0))

    def halves(out: Path) -> None:
        """Make the same runs in two processes, each pinned to half of the cores."""
        rates = space_of(config)[0].values
        processes = []
        for part in range(2):
            half = {**tree["tune"], "space": {RATE: list(rates[part::2]), PLACEMENT: PLACEMENTS}}
            file = folder / f"half-{part}.yaml"
            file.write_text(as_yaml({**tree, "tune": half}))
            arguments = ("tune", file, "--out", out / str(part))
            processes.append(command(*arguments, cores=set(cores[part::2])))
        codes = [process.wait() for process in processes]
        if any(codes):
            raise SystemExit("one of the halves failed")

    contenders = {
        "alone": lambda out: run("tune", path, "--out", out),
        "two workers": lambda out: run("tune", path, "--out", out, "--workers", 2),
        "two pinned halves": halves,
    }
    seconds = in_turn(contenders, repeats, folder)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return {
        "trials": sum(1 for _ in combinations(space_of(config))),
        "seconds": seconds,
        "speedup": medians["alone"] / medians["two workers"],
        "speedup_of_pinned_halves": medians["alone"] / medians["two pinned halves"],
        "wanted": WANTED_SPEEDUP,
    }


def compare(repeats: int, seeds: int, folder: Path) -> dict:
    """Compare whole studies: one run after another, and with two workers."""
    variants = {name: {PLACEMENT: name} for name in PLACEMENTS[1:]}
    section = {"baseline": {PLACEMENT: "none"}, "variants": variants, "seeds": list(range(seeds))}
    path = folder / "study.yaml"
    path.write_text(as_yaml({**THREE_CONV, "compare": section}))
    contenders = {
        "alone": lambda out: run("compare", path, "--out", out),
        "two workers": lambda out: run("compare", path, "--out", out, "--workers", 2),
    }
    seconds = in_turn(contenders, repeats, folder / "studies")
    runs = len(PLACEMENTS) * seeds
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return {
        "runs": runs,
        "seconds": seconds,
        "runs_per_hour": {name: 3600 * runs / found for name, found in medians.items()},
        "speedup": medians["alone"] / medians["two workers"],
        "wanted": WANTED_SPEEDUP,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement")
    cases = ["overhead", "memory", "workers", "compare"]
    parser.add_argument("--only", choices=cases, help="default: all")
    parser.add_argument("--seeds", type=int, default=8, help="of the study that is compared")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    words = " ".join(["python", "scripts/bench_tune.py", *sys.argv[1:]])
    report = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    with tempfile.TemporaryDirectory(prefix="bench-tune-") as name:
        folder = Path(name)
        measured = {
            "overhead": lambda: overhead(arguments.repeats, folder),
            "memory": lambda: memory(folder),
            "workers": lambda: workers(arguments.repeats, folder),
            "compare": lambda: compare(arguments.repeats, arguments.seeds, folder),
        }
        for case in [arguments.only] if arguments.only else measured:
            before = report.pop(case, None)
            others = [*before.pop("others", []), before] if before else []
            report[case] = {"command": words, **measured[case](), "others": others}
            print(case, json.dumps(report[case]), flush=True)
    report |= {
        "machine": {**machine(), "load": load},
        "versions": versions("keras-tuner"),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
