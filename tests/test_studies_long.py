"""Studies that are killed and go on, and that do not grow: slow, in processes of their own."""

import re
import signal
import subprocess
import sys
import time

import pytest

from bnzoo import runs

STUDY = """
data: {name: digits, batch_size: 64, validation: 0.2}
model: {name: three_conv, filters: [4, 4, 4]}
train: {epochs: 3, deterministic: true, optimizer: {name: adam}, tensorboard: false}
compare:
  baseline: {model.placement: none}
  variants: {before: {model.placement: before}}
  seeds: [0, 1]
"""
TIMES = ("seconds", "seconds_per_epoch")


def without_times(tree):
    if isinstance(tree, dict):
        return {key: without_times(value) for key, value in tree.items() if key not in TIMES}
    return [without_times(item) for item in tree] if isinstance(tree, list) else tree


@pytest.mark.slow
def test_a_killed_deterministic_study_resumes_to_the_summary_of_an_undisturbed_one(tmp_path):
    config_file = tmp_path / "study.yaml"
    config_file.write_text(STUDY)
    # The same relative folder, so that the command in the summary is the same.
    command = [sys.executable, "-m", "bnzoo", "compare", str(config_file), "--out", "study"]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    subprocess.run(command, cwd=tmp_path / "whole", check=True, capture_output=True)

    # In the middle of the second of four runs.
    killed = runs.StudyFolder(tmp_path / "killed" / "study")
    process = subprocess.Popen(command, cwd=tmp_path / "killed", stdout=subprocess.DEVNULL)
    while not killed.run("before", 0).history() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the study ended before it could be killed"
    assert killed.run("baseline", 0).status() == "completed"
    assert killed.run("before", 0).status() is None
    assert not killed.run("baseline", 1).path.exists()

    resumed = subprocess.run(
        [*command, "--resume"], cwd=tmp_path / "killed", check=True, capture_output=True, text=True
    )
    assert "1 of 4 runs have ended already." in resumed.stdout
    whole = runs.StudyFolder(tmp_path / "whole" / "study")
    assert without_times(killed.summary()) == without_times(whole.summary())
    assert killed.report_file.exists()


MEMORY = """
import resource, sys
from pathlib import Path
from bnzoo import config
from bnzoo.studies import compare

tree = {
    "data": {"name": "digits", "batch_size": 256, "validation": 0.2},
    "model": {"name": "three_conv"},
    "train": {"epochs": 1, "tensorboard": False},
    "compare": {"variants": {"none": {"model.placement": "none"}}, "seeds": list(range(6))},
}

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20

def begin_run(position, total, label):
    print("resident", position, resident(), flush=True)

compare(config.validate(tree, "memory"), sys.argv[1], begin_run=begin_run,
        write_report=lambda *report: None)
print("resident", 13, resident())
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "study")],
        capture_output=True,
        text=True,
        check=True,
    )
    sizes = {
        int(position): float(size)
        for position, size in re.findall(r"^resident (\d+) (\S+)$", done.stdout, re.MULTILINE)
    }
    assert len(sizes) == 13, done.stdout
    # MiB. The first runs fill caches. What TensorFlow keeps of each traced function is between 1
    # and 2 a run (14 over these nine, measured); a model or data set that is kept is far more.
    assert sizes[13] - sizes[4] < 30, sizes
