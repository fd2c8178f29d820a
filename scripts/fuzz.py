"""Give hostile input to the commands and count what they answer: never a traceback.

    python scripts/fuzz.py --count 10000 --seed 0

Every input runs a command in this process, in an empty folder. It is wrong where an exception
leaves the command, where it ends with another code than 0, 1, 2 or 130, says nothing about its
failure, takes five minutes, makes or changes a file outside the folder that it was given, or runs
code: of a pickle, of a model, of a config that is only checked.
"""

import argparse
import collections
import contextlib
import functools
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hostile_inputs
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from recorded import RESULTS

SECONDS = 300  # of the clock: a busy machine has little for this process
SHARES = {
    "config": 0.45,
    "override": 0.3,
    "npz": 0.07,
    "image folder": 0.05,
    "model": 0.07,
    "run": 0.06,
}
SMALL = """
data: {name: digits, batch_size: 256, validation: 0.2, train_size: 300, test_size: 50}
model: {name: dense, units: [4], placement: before}
train: {epochs: 1, optimizer: {name: adam}, tensorboard: false}
compare: {variants: {none: {model.placement: none}}, baseline: {}, seeds: [0]}
"""


class TooLong(BaseException):
    """The command has not ended in time."""


def run_command(arguments) -> tuple[int | None, str, str]:
    """Run `bnzoo ARGUMENTS` in this process.

    Returns:
        Its exit code, None where an exception left it; what it printed; and the traceback.
    """
    from bnzoo import cli

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [(number, signal.getsignal(number)) for number in numbers]
    argv, sys.argv = sys.argv, ["bnzoo", *arguments]
    # As a terminal in UTF-8 does, these refuse what cannot be encoded.
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors, write_through=True)
        for errors in ("strict", "backslashreplace")
    )
    code, trace = None, ""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        trace = traceback.format_exc()
    finally:
        signal.alarm(0)
        sys.argv = argv
        for number, handler in before:
            signal.signal(number, handler)
    printed = b"".join(one.buffer.getvalue() for one in (out, err))
    return code, printed.decode("utf-8", "replace"), trace


def _too_long(*_) -> None:
    raise TooLong


def _seen(folder: Path, aside: tuple[str, ...]) -> dict[str, tuple]:
    """Return what tells one state of a folder from another, but for some parts of it."""
    found = {}
    for name, folders, files in os.walk(folder):
        place = os.path.relpath(name, folder)
        folders[:] = [
            one for one in folders if os.path.normpath(os.path.join(place, one)) not in aside
        ]
        for one in (*folders, *files):
            state = os.lstat(os.path.join(name, one))
            is_file = one in files
            found[os.path.join(place, one)] = (
                state.st_mode,
                is_file and (state.st_size, state.st_mtime_ns),
            )
    return found


def faults_of(attack: hostile_inputs.Attack, sandbox: Path) -> tuple[str, list[str]]:
    """Run an attack.

    Args:
        attack: is made in a folder of its own below the sandbox.
        sandbox: a folder; it is emptied first.

    Returns:
        How the command ended, and what is wrong with that.
    """
    shutil.rmtree(sandbox, ignore_errors=True)
    work, outside = sandbox / "work", sandbox / "outside"
    work.mkdir(parents=True)
    outside.mkdir()
    (outside / "config.yaml").write_text("mine: 1\n")
    hostile_inputs.write_files(work, attack.files)
    aside = tuple(os.path.join("work", name) for name in attack.may_write)
    before, here = _seen(sandbox, aside), Path.cwd()
    os.chdir(work)
    try:
        code, printed, trace = run_command(attack.arguments)
    finally:
        os.chdir(here)
    wrong = []
    if code is None:
        wrong.append(trace)
    elif code not in (0, 1, 2, 130) or (code and not printed.strip()):
        wrong.append(f"exit code {code}, and it said: {printed!r}")
    elif "Traceback (most recent call last)" in printed:
        wrong.append(printed)
    elif len(printed) > 100_000:
        wrong.append(f"{len(printed):,} characters: {printed[:300]!r}")
    after = _seen(sandbox, aside)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        wrong.append(f"changed: {changed[:5]}; it said: {printed}")
    if any(sandbox.rglob(hostile_inputs.CODE_RAN)):
        wrong.append("code was run")
    return "exception" if code is None else f"exit {code}", wrong


@functools.cache
def templates() -> hostile_inputs.Templates:
    """Train a small study, and return what it leaves behind."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        (folder / "c.yaml").write_text(SMALL)
        study = folder / "study"
        _must_work("compare", folder / "c.yaml", "--out", study)
        run = study / "runs/baseline/seed-0"
        found, half = contents(run), contents(run)
        del half["summary.json"]
        half["checkpoint/epoch-00001.keras"] = half.pop("model.keras")
        half["checkpoint/first_loss.json"] = b"2.5\n"
        return hostile_inputs.Templates(found, half, contents(study))


def _must_work(*arguments) -> None:
    code, printed, trace = run_command(map(str, arguments))
    if code != 0:
        raise SystemExit(f"{printed}{trace}")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by their paths, without pages and pictures."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".html", ".png", ".lock")
    }


def strategies(kinds) -> dict:
    """Return what is drawn, by some of the kinds of `SHARES`."""
    known = {
        "config": hostile_inputs.configs,
        "override": hostile_inputs.overrides,
        "npz": hostile_inputs.archives,
        "image folder": hostile_inputs.image_folders,
        "model": lambda: hostile_inputs.model_files(templates()),
        "run": lambda: hostile_inputs.run_folders(templates()),
    }
    return {kind: known[kind]() for kind in kinds}


def each(strategy, count: int, start: int, meet) -> None:
    """Call a function with so many drawn values."""
    drawn = given(strategy)(lambda value: meet(value))
    seed(start)(
        settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )(drawn)
    )()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=SHARES, nargs="+", default=list(SHARES))
    parser.add_argument("--out", type=Path, default=RESULTS / "fuzz.json")
    arguments = parser.parse_args()
    from bnzoo.environment import machine, versions
    from bnzoo.serving import parity

    started = time.perf_counter()
    found, wrong = collections.defaultdict(collections.Counter), collections.Counter()
    whole = sum(SHARES[kind] for kind in arguments.only)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        sandbox = Path(name) / "sandbox"

        def meet(attack, kind: str) -> None:
            ending, faults = faults_of(attack, sandbox)
            found[kind][ending] += 1
            for fault in faults:
                last = "\n".join(fault.strip().splitlines()[-7:])
                where = [line.strip() for line in fault.splitlines() if "/bnzoo/" in line][-1:]
                key = f"{(where or [''])[0]} {fault.strip().splitlines()[-1][:80]}"
                wrong[key] += 1
                if wrong[key] == 1:
                    print(f"--- {attack.kind}: {attack.arguments}\n{last}\n", flush=True)

        # A new process for each export would take seconds, and never sees what was hostile.
        parity.ask_new_process = ask_here
        kinds = strategies(arguments.only)
        for number, kind in enumerate(arguments.only):
            count = max(1, round(arguments.count * SHARES[kind] / whole))
            each(
                kinds[kind], count, arguments.seed + number, lambda one, kind=kind: meet(one, kind)
            )
            print(kind, dict(found[kind]), f"{time.perf_counter() - started:.0f} s", flush=True)
    report = {
        "command": " ".join(["python", "scripts/fuzz.py", *sys.argv[1:]]),
        "inputs": sum(one.total() for one in found.values()),
        "answers": {kind: dict(sorted(one.items())) for kind, one in found.items()},
        "wrong": wrong.total(),
        "seconds": round(time.perf_counter() - started, 1),
        "machine": machine(),
        "versions": versions("hypothesis"),
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(*(f"{count:5} {key}" for key, count in wrong.most_common()), sep="\n")
    raise SystemExit(bool(wrong))


def ask_here(export: Path, batches) -> dict:
    """Compare an export in this process."""
    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(str(export))
    ask = loaded.signatures["serving_default"]
    answers = [ask(inputs=tf.constant(batch)) for batch in batches]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


if __name__ == "__main__":
    main()
