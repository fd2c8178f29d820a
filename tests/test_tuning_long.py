"""Sweeps that are killed and go on, and that do not grow: slow.

What a sweep costs beside its runs is measured by scripts/bench_tune.py.
"""

import os
import signal
import subprocess
import sys
import time

import pytest
from sweeps import PLACEMENT, RATE, TREE, make_config, rows, sweep

from bnzoo import runs
from bnzoo.config import as_yaml
from bnzoo.tuning.trials import read_trials

pytestmark = pytest.mark.slow
LONG = 600

SEARCHES = {
    "grid": {"space": {RATE: [0.01, 0.5, 1.0], PLACEMENT: ["none", "before"]}},
    "random": {
        "algorithm": "random",
        "max_trials": 5,
        "space": {
            RATE: {"min": 1e-3, "max": 1.0, "scale": "log"},
            PLACEMENT: ["none", "before"],
        },
    },
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("search", SEARCHES)
def test_a_sweep_whose_chief_is_killed_in_mid_trial_ends_as_an_undisturbed_one(
    tmp_path, search, workers
):
    checked = make_config(train={"epochs": 5}, **SEARCHES[search])
    path = tmp_path / "sweep.yaml"
    tree = {**TREE, "train": {**TREE["train"], "epochs": 5}}
    tree["tune"] = {**TREE["tune"], **SEARCHES[search]}
    path.write_text(as_yaml(tree))
    folder = runs.SweepFolder(tmp_path / "killed")
    command = [sys.executable, "-m", "bnzoo", "tune", path, "--out", folder.path]
    command += ["--workers", str(workers)] if workers > 1 else []

    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + LONG

    def in_mid_trial():
        states = read_trials(folder, checked)
        under_way = [state for state in states if state.status == "RUNNING"]
        return len(states) > 2 and any(
            folder.run(state.trial.folder, 0).checkpoints.exists() for state in under_way
        )

    while not in_mid_trial():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait(LONG) == -signal.SIGKILL
    states = read_trials(folder, checked)
    assert any(state.status == "RUNNING" for state in states)
    assert not folder.best_file.exists()

    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL, timeout=LONG)
    whole = runs.SweepFolder(tmp_path / "whole")
    sweep(checked, whole.path)
    assert rows(folder) == rows(whole)
    assert folder.summary()["verdict"] == whole.summary()["verdict"]
    assert folder.report_file.exists()


SMALL = {
    "space": {RATE: [0.01 * number for number in range(1, 16)], PLACEMENT: ["none", "before"]},
    "model": {"name": "three_conv", "filters": [8, 8, 8]},
    "train": {"deterministic": False},
}


def _megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
def test_memory_after_30_small_trials_is_within_100_mb_of_after_3(tmp_path):
    found = []
    sweep(make_config(**SMALL), tmp_path, end_trial=lambda *ended: found.append(_megabytes()))
    assert len(found) == 30
    assert found[29] - found[2] < 100, found
