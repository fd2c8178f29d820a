"""`bnzoo compare` through its entry point: what it prints, refuses, and how it exits."""

import re
import signal
import subprocess
import sys
import time

import pytest

from bnzoo import runs

CONFIG = """
data: {name: digits, batch_size: 256, validation: 0.2}
model: {name: dense, units: [8], batch_norm: {momentum: 0.1}}
train: {epochs: 2, optimizer: {name: adam}, tensorboard: false, jit_compile: false}
compare:
  baseline: {model.placement: none}
  variants: {before: {model.placement: before}}
  seeds: [0]
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def test_compare_estimates_shows_each_run_and_ends_with_the_verdict(
    call, config_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, printed, errors = call("compare", config_file, "--set", "train.epochs=1")
    assert code == 0, errors
    lines = printed.splitlines()
    assert re.match(r"Estimate: about .* for 2 runs \(baseline .* an epoch, before", lines[1])
    assert "run 1/2 baseline seed 0" in lines
    assert "run 2/2 before seed 0" in lines
    assert sum(line.startswith("epoch 1/1  accuracy ") for line in lines) == 2
    folder = runs.StudyFolder(tmp_path / "runs" / "small")  # the default: the config's name
    summary = folder.summary()
    said = summary["verdict"].splitlines()
    assert [line.split(":")[0] for line in said] == ["baseline", "before"]
    ending = lines[lines.index(said[0]) + 1 :]
    assert ending[0] == said[1]
    assert max(map(len, ending[:2])) <= 100
    assert ending[1].split(maxsplit=2)[:2] == ["best", "run"]
    assert re.search(r"(\w+) seed 0: \1 has the highest mean test accuracy$", ending[1])
    assert ending[2].startswith("  report ")
    assert summary["name"] == "small"
    assert summary["command"] == (
        f"bnzoo compare {config_file} --out runs/small --set train.epochs=1"
    )
    assert folder.report_file.exists()

    code, _, errors = call("compare", config_file, "--set", "train.epochs=2")
    assert code == 2
    assert "train.epochs: 1 there, 2 here" in errors
    code, _, errors = call("compare", config_file, "--set", "train.epochs=1")
    assert code == 2
    assert "already holds a study of this config (completed)" in errors


def refused(tmp_path):
    """Arguments after `compare CONFIG`, and what the message must say."""
    (tmp_path / "file").write_text("mine")
    return [
        (["--set", "compare="], "compare: expected this section with what to compare"),
        (["--set", "compare.variants.x={model.placement: befor}"], "Did you mean 'before'?"),
        (["--set", "compare.seeds=[1, 1]"], "got [1, 1]"),
        (["--resume"], "nothing to resume: expected a study folder"),
        (["--out", str(tmp_path / "file")], "expected a folder, got a file"),
        (["--out", "/proc/bnzoo-study"], "expected a folder that can be written"),
        (["--set", "data.batch_size=100000"], "100000"),
        (["--set", "train.follow_weights=[{layer: logit, index: [0]}]"], "Did you mean 'logits'"),
    ]


@pytest.mark.parametrize("case", range(8))
def test_bad_input_is_one_clear_error_with_code_2_and_nothing_written(
    call, config_file, tmp_path, case
):
    arguments, message = refused(tmp_path)[case]
    if "--out" not in arguments:
        arguments = [*arguments, "--out", tmp_path / "study"]
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    code, printed, errors = call("compare", config_file, *arguments)
    assert code == 2, (printed, errors)
    assert errors.startswith("bnzoo compare: ")
    assert message in errors
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_a_study_that_is_stopped_exits_with_130_and_says_how_to_go_on(config_file, tmp_path):
    folder = runs.StudyFolder(tmp_path / "study")
    process = subprocess.Popen(
        [sys.executable, "-m", "bnzoo", "compare", str(config_file), "--out", str(folder.path),
         "--set", "train.epochs=5000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(folder.run("baseline", 0).history()) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "bnzoo compare: interrupted." in errors
    assert "Traceback" not in errors
    assert "Continue with: bnzoo compare" in printed
    assert "--set train.epochs=5000 --resume" in printed
    assert folder.status() == "interrupted"
    assert folder.run("baseline", 0).status() == "interrupted"
