"""Kill runs, studies and sweeps at random moments, resume them, and compare with undisturbed ones.

    python scripts/kill_runs.py --kills 100

Every other kill comes at a random time, and every other right before a random one of the changes
that the process makes to files in its folder: opening for writing, renaming, removing. A kill is
SIGKILL. Then the same command with --resume must end at the same files: histories, weights and
optimizers bit for bit, summaries and reports but for times. Kills come after the process has
locked its folder, before which nothing has begun. configs/results/kills.json is written after each
kill, and a later call adds to it.

Each process is a fork of this one, which has imported TensorFlow and computed nothing: starting
Python anew would take longer than these runs.
"""

import argparse
import csv
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

import h5py

# For the forks.
from bnzoo import cli
from bnzoo.config import as_yaml
from bnzoo.environment import machine, versions

RESULTS = Path(__file__).parent.parent / "configs" / "results" / "kills.json"
LONG = 300.0  # seconds until a process counts as stuck
TIMES = ("seconds", "seconds_per_epoch")
# Cells of reports with times, and what the terminal says of them.
TIME_CELLS = re.compile(r'(<td data-label="Seconds[^>]*>)[^<]*|(<td>)[^<]*(</td>\s*</tr>)')

DATA = {"name": "digits", "batch_size": 128, "validation": 0.2, "augment": "flip_crop"}
MODEL = {"name": "vgg", "filters": [[4], [4]], "units": [8], "dropout": 0.3}
TRAIN = {
    "epochs": 4,
    "deterministic": True,
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "schedule": "cosine",
    "tensorboard": False,
    "jit_compile": False,  # compiling takes longer than these few steps
}
SMALL = {"data": DATA, "model": MODEL, "train": {**TRAIN, "epochs": 2}}
VARIANTS = {
    "baseline": {"model.placement": "none"},
    "variants": {"before": {"model.placement": "before"}},
    "seeds": [1],
}
WATCHED = {"name": "activation_shift", "every": 3, "from_step": 0, "examples": 64}
SPACE = {
    "train.optimizer.learning_rate": {"min": 0.001, "max": 0.1, "scale": "log"},
    "model.placement": ["none", "before"],
}
OBJECTIVE = {"name": "val_accuracy", "direction": "max"}
FOLLOWED = [{"layer": "logits", "weight": "kernel", "index": [0, 3]}]
TREES = {
    "train": {
        **SMALL,
        "train": {
            **TRAIN,
            "early_stopping": {"monitor": "val_loss", "patience": 1},
            "follow_weights": FOLLOWED,
        },
    },
    "train, recalibrated": {
        **SMALL,
        "train": {**TRAIN, "recalibrate": 256, "steps_per_epoch": 5, "schedule": "constant"},
    },
    "compare": {**SMALL, "compare": VARIANTS},
    "compare, watching": {**SMALL, "compare": {**VARIANTS, "study": WATCHED}},
    "tune, grid": {
        **SMALL,
        "tune": {
            "algorithm": "grid",
            "objective": OBJECTIVE,
            "space": {**SPACE, "train.optimizer.learning_rate": [0.01]},
        },
    },
    "tune, random": {
        **SMALL,
        "tune": {
            "algorithm": "random",
            "max_trials": 2,
            "objective": OBJECTIVE,
            "space": SPACE,
        },
    },
}
TWO_WORKERS = "train, two workers"
DISTRIBUTED = {**SMALL, "train": {**TRAIN, "distribute": "multi_worker"}}


# --- processes -----------------------------------------------------------------------------------


class _Killer:
    """Kills its own process right before the n-th change to the files of its folder.

    Args:
        folder: files elsewhere do not count.
        before: number of the change, from 1; 0 for none.
        log: gets a line for each change.
    """

    def __init__(self, folder: Path, before: int, log: Path):
        self._folder, self._before, self._count = str(folder), before, 0
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, event: str, arguments: tuple) -> None:
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            return
        if event == "open" and not (arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = os.path.abspath(os.fsdecode(arguments[event == "os.rename"]))
        if not path.startswith(self._folder):
            return
        self._count += 1
        os.write(self._log, f"{event} {path}\n".encode())
        if self._count == self._before:
            os.kill(os.getpid(), signal.SIGKILL)


def start(words: list[str], place: Path, before: int = 0, **variables: str) -> int:
    """Start `bnzoo WORDS` in a folder, and return the id of the process.

    Args:
        words: of the command.
        place: to run in; it gets what is printed (`printed.txt`), and a line for each change to
            the folder `out` (`changes.txt`).
        before: number of the change before which the process kills itself, 0 for none.
        **variables: of the environment.
    """
    process = os.fork()
    if process:
        return process
    try:
        os.chdir(place)
        os.environ |= variables
        written = os.open(place / "printed.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(written, descriptor)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        sys.argv = ["bnzoo", *words]
        sys.addaudithook(_Killer(place / "out", before, place / "changes.txt"))
        cli.main()
    except SystemExit as end:
        os._exit(end.code or 0)
    except BaseException as error:
        print("traceback:", type(error).__name__, error, file=sys.stderr)
    os._exit(70)


def ended(process: int, seconds: float) -> int | None:
    """Wait for a process so long, and return its exit code, as `subprocess` has it."""
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)


def stop(processes: list[int], seconds: float) -> list[int]:
    """Wait for processes so long, kill those that go on, and return the exit codes."""
    codes = []
    for process in processes:
        code = ended(process, seconds)
        if code is None:
            os.kill(process, signal.SIGKILL)
            code = ended(process, LONG)
        codes.append(code)
    return codes


# --- what is compared ----------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, Any]:
    """Return what a run, study or sweep has left, by file, without times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file():
            found[name] = READERS.get(path.suffix, Path.read_bytes)(path)
    return found


def _model(path: Path) -> dict[str, Any]:
    """Return the config, and each number of weights and optimizer."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        # Keras numbers what layers share by where it lies in memory.
        found["config"] = _without(("shared_object_id",), json.loads(archive.read("config.json")))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(
                lambda name, one: (
                    found.update({name: one[()].tobytes()})
                    if isinstance(one, h5py.Dataset)
                    else None
                )
            )
    return found


def _table(path: Path) -> list[list[str]]:
    rows = list(csv.reader(path.read_text().splitlines()))
    kept = [column for column, name in enumerate(rows[0]) if name not in TIMES]
    return [[row[column] for column in kept] for row in rows]


def _json(path: Path) -> Any:
    return _without(TIMES, json.loads(path.read_text()))


def _without(keys: tuple[str, ...], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without(keys, value) for key, value in tree.items() if key not in keys}
    return [_without(keys, one) for one in tree] if isinstance(tree, list) else tree


def _report(path: Path) -> str:
    return TIME_CELLS.sub(r"\1\2\3", path.read_text())


READERS: dict[str, Callable[[Path], Any]] = {
    ".keras": _model,
    ".csv": _table,
    ".json": _json,
    ".html": _report,
}


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Name the files that differ, or are in one of two only."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


# --- one kill ------------------------------------------------------------------------------------


class Kind:
    """What is killed, with the undisturbed run of it.

    Args:
        name: of the kind; its first word is the command.
        tree: the configuration.
        place: for all that is made.
    """

    def __init__(self, name: str, tree: dict, place: Path):
        self.name, self._place = name, place
        place.mkdir()
        self._config = place / "config.yaml"
        self._config.write_text(as_yaml(tree))
        command = name.partition(",")[0]
        self.words = [command, str(self._config), "--out", "out"]
        whole = self._new("whole")
        started = time.monotonic()
        processes = self._start(self.words, whole)
        _await_folder(whole, processes)
        begun = time.monotonic()
        codes = stop(processes, LONG)
        if any(codes):
            raise SystemExit(f"{name}: {codes}\n{(whole / 'printed.txt').read_text()}")
        self.seconds, self.all_seconds = time.monotonic() - begun, time.monotonic() - started
        changes = (whole / "changes.txt").read_text().splitlines()
        self.changes = len(changes)
        self.locked = next(n for n, one in enumerate(changes, start=1) if one.endswith(".lock"))
        self.whole = contents(whole / "out")

    def _new(self, name: str) -> Path:
        place = self._place / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place

    def _start(self, words: list[str], place: Path, before: int = 0) -> list[int]:
        if self.name != TWO_WORKERS:
            return [start(words, place, before)]
        addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
        return [
            start(words, place, 0, TF_CONFIG=json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            ))
            for index in range(2)
        ]  # fmt: skip

    def kill(self, draw: random.Random, at_change: bool) -> dict[str, Any] | None:
        """Kill, resume and compare.

        Args:
            draw: the moment.
            at_change: right before a change to files, not at a time.

        Returns:
            The moment, and what differed; None where it ended before it was killed.
        """
        place = self._new("killed")
        if at_change and self.name != TWO_WORKERS:
            processes = self._start(self.words, place, draw.randint(self.locked + 1, self.changes))
            codes = stop(processes, LONG)
        else:
            processes = self._start(self.words, place)
            _await_folder(place, processes)
            victim = draw.choice(processes)
            code = ended(victim, draw.uniform(0, self.seconds))
            if code is None:
                os.kill(victim, signal.SIGKILL)
            others = [one for one in processes if one != victim]
            codes = [ended(victim, 0.5) if code is None else code, *stop(others, 60)]
        if -signal.SIGKILL not in codes:
            return None
        changes = (place / "changes.txt").read_text().splitlines()
        codes = stop(self._start([*self.words, "--resume"], place), LONG)
        found = {"at": _moment(changes[-1]) if at_change else "at a random time"}
        if any(codes):
            said = (place / "printed.txt").read_text().splitlines()
            return {**found, "differed": [f"exit code {codes[0]}: {said[-1:]}"]}
        return {**found, "differed": differing(self.whole, contents(place / "out"))}


def _await_folder(place: Path, processes: list[int]) -> None:
    deadline = time.monotonic() + LONG
    while not (place / "out" / ".lock").exists():
        if time.monotonic() > deadline:
            stop(processes, 0)
            raise SystemExit((place / "printed.txt").read_text())
        time.sleep(0.005)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _moment(change: str) -> str:
    """Name a change by what it does to which file, without what differs from run to run."""
    event, _, path = change.partition(" ")
    name = re.sub(r"^\.(.+)\.\d+-\d+\.partial", r"\1", Path(path).name)
    name = re.sub(r"epoch-\d+", "a checkpoint", name)
    name = (
        "a run's folder" if name.startswith(("seed-", "learning_rate", "none", "before")) else name
    )
    return f"{'before' if event != 'open' else 'before opening'} {name}"


def main() -> None:
    """Kill in turn what each kind runs, and write the counts down after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="in all, with those of before")
    parser.add_argument("--kinds", nargs="+", default=list(TREES), choices=[*TREES, TWO_WORKERS])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    result = {"machine": machine(), "versions": versions(), "command": "", "kinds": {}}
    if arguments.out.exists():
        result["kinds"] = json.loads(arguments.out.read_text())["kinds"]
    result["command"] = f"python scripts/kill_runs.py --kills {arguments.kills}"
    deadline, trees = time.monotonic() + arguments.seconds, {**TREES, TWO_WORKERS: DISTRIBUTED}
    with tempfile.TemporaryDirectory() as folder:
        kinds = {}
        while time.monotonic() < deadline:
            counts = {name: result["kinds"].get(name, {"kills": 0})["kills"] for name in trees}
            if sum(counts.values()) >= arguments.kills:
                break
            name = min(arguments.kinds, key=counts.get)
            if name not in kinds:
                kinds[name] = Kind(name, trees[name], Path(folder) / f"kind-{len(kinds)}")
            tried = result["kinds"].setdefault(
                name,
                {"kills": 0, "exact": 0, "too_late": 0, "at": {}, "differed": [], "seconds": 0},
            )
            _kill_one(kinds[name], tried)
            arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def _kill_one(kind: Kind, tried: dict[str, Any]) -> None:
    number, started = tried["kills"] + tried["too_late"], time.monotonic()
    found = kind.kill(random.Random(f"{kind.name} {number}"), at_change=number % 2 == 1)
    tried["seconds"] = round(tried["seconds"] + time.monotonic() - started, 1)
    if found is None:
        tried["too_late"] += 1
        return
    tried["kills"] += 1
    tried["at"] = dict(sorted((Counter(tried["at"]) + Counter([found["at"]])).items()))
    if found["differed"]:
        tried["differed"].append(found)
    else:
        tried["exact"] += 1
    print(f"{kind.name} {number}: {found}", flush=True)


if __name__ == "__main__":
    main()
