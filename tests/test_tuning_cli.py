"""`bnzoo tune` through its entry point: what it prints, refuses, and how it exits."""

import re
import signal
import subprocess
import sys
import time

import pytest
from sweeps import RATE, TREE

from bnzoo import runs
from bnzoo.config import as_yaml

needed = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "small.yaml"
    tree = {**TREE, "tune": {**TREE["tune"], "space": {RATE: [0.5, 1e5]}}}
    path.write_text(as_yaml(tree))
    return path


def test_tune_shows_each_trial_and_ends_with_the_verdict(call, config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed, errors = call("tune", config_file)
    assert code == 0, errors
    lines = printed.splitlines()
    assert "run 1/2 learning_rate 0.5, seed 0" in lines
    assert any(re.match(r"trial 1/2  learning_rate 0\.5  val_accuracy 0\.\d{4}", s) for s in lines)
    assert "trial 2/2  learning_rate 100000  diverged" in lines
    assert sum(line.startswith("Loading digits") for line in lines) == 1
    folder = runs.SweepFolder(tmp_path / "runs" / "small")  # the default: the config's name
    summary = folder.summary()
    ending = lines[lines.index(summary["verdict"].splitlines()[0]) :]
    whole = " ".join(line.strip() for line in ending)  # long lines are wrapped
    assert whole.startswith(" ".join(summary["verdict"].splitlines()))
    assert all(len(line) <= 100 for line in ending if str(tmp_path) not in line)
    assert summary["command"] == f"bnzoo tune {config_file} --out runs/small"
    for file in (folder.report_file, folder.trials_file, folder.best_file):
        assert file.exists()
    assert "  best           bnzoo train runs/small/best.yaml" in lines
    assert f"  chosen by      {summary['chosen_by']}" in lines

    assert call("check", folder.best_file)[0] == 0
    code, _, errors = call("tune", config_file)
    assert code == 2
    assert "already holds a sweep of this config (completed)" in errors
    code, printed, _ = call("tune", config_file, "--resume")
    assert code == 0
    assert "run 1/2" not in printed


REFUSED = {
    "no section": (["--set", "tune="], "tune: expected this section with what to tune"),
    "an empty space": (
        ["--set", "tune.space={}"],
        "tune.space: expected a length of at least 1, got {}",
    ),
    "an unknown path": (
        ["--set", "tune.space={model.placment: [none]}"],
        "Did you mean 'placement'",
    ),
    "a grid too large": (["--set", "tune.max_trials=1"], "at least the 2 combinations of the grid"),
    "zero trials": (
        ["--set", "tune.max_trials=0"],
        "tune.max_trials: expected a whole number above 0",
    ),
    "a metric it has not": (["--set", "data.validation=none"], "a metric that every run has"),
    "nothing to resume": (["--resume"], "nothing to resume: expected a sweep folder"),
    "both flags": (["--resume", "--fresh"], "at most one of --resume and --fresh, got both"),
    "data that is too small": (["--set", "data.batch_size=100000"], "100000"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_clear_error_with_code_2_and_nothing_written(
    call, config_file, tmp_path, case
):
    arguments, message = REFUSED[case]
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    code, printed, errors = call("tune", config_file, "--out", tmp_path / "sweep", *arguments)
    assert code == 2, (printed, errors)
    assert errors.startswith("bnzoo tune: ")
    assert message in errors
    assert "Traceback" not in errors
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_workers_of_ones_own_and_a_role_exclude_each_other(call, config_file, monkeypatch):
    for name, value in zip(needed, ("worker-1", "127.0.0.1", "8000"), strict=True):
        monkeypatch.setenv(name, value)
    code, _, errors = call("tune", config_file, "--workers", "2")
    assert code == 2
    assert "expected no --workers where KERASTUNER_TUNER_ID is 'worker-1'" in errors


@pytest.mark.slow
def test_export_takes_the_best_run_of_a_sweep(call, config_file, tmp_path):
    folder = runs.SweepFolder(tmp_path / "sweep")
    assert call("tune", config_file, "--out", folder.path)[0] == 0
    code, printed, errors = call("export", folder.path, "--out", tmp_path / "served")
    assert code == 0, errors
    assert f"the best run: {folder.summary()['best']['folder']}" in printed
    assert "  best of 2 runs: learning_rate 0.5 seed " in printed


@pytest.mark.slow
def test_bad_input_with_workers_is_the_same_error(call, config_file, tmp_path):
    out = tmp_path / "sweep"
    code, printed, errors = call("tune", config_file, "--out", out, "--workers", "2", "--resume")
    assert code == 2, printed
    assert errors.startswith(f"bnzoo tune: {out}: nothing to resume")


def test_check_reports_the_problems_of_a_sweep_without_tensorflow_or_keras_tuner(config_file):
    config_file.write_text(config_file.read_text().replace("learning_rate", "learning_rte"))
    script = (
        f"import sys; sys.argv = ['bnzoo', 'check', {str(config_file)!r}]\n"
        "from bnzoo.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code)\n"
        "assert not {'tensorflow', 'keras', 'keras_tuner', 'grpc'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tune.space: train.optimizer.learning_rte: unknown key" in done.stdout
    assert done.stdout.endswith("2\n")


def test_train_and_compare_leave_the_sweep_aside(call, config_file, tmp_path):
    sets = ("--set", "data.validation=none", "--set", "train.epochs=1")
    assert call("train", config_file, "--out", tmp_path / "run", *sets)[0] == 0
    run = runs.RunFolder(tmp_path / "run")
    assert run.config().tune is None
    code, _, errors = call("tune", config_file, "--out", tmp_path / "run", "--fresh")
    assert code == 2
    assert "holds a run, and a sweep was to be written" in errors
    assert run.status() == "completed"


@pytest.mark.slow
def test_a_sweep_that_is_stopped_exits_with_130_and_says_how_to_go_on(config_file, tmp_path):
    folder = runs.SweepFolder(tmp_path / "sweep")
    process = subprocess.Popen(
        [sys.executable, "-m", "bnzoo", "tune", config_file, "--out", folder.path,
         "--set", "train.epochs=5000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list(folder.runs.glob("*/seed-0/history.csv")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "--set train.epochs=5000 --resume" in printed
    assert folder.status() == "interrupted"


def test_of_three_keys_the_last_lines_say_which_mattered_most(call, config_file, tmp_path):
    space = "{train.optimizer.learning_rate: [1.0e-5, 0.01, 0.5], "
    space += "model.placement: [none, before], train.optimizer.momentum: [0.0, 0.5]}"
    code, printed, errors = call(
        "tune", config_file, "--out", tmp_path / "sweep", "--set", f"tune.space={space}"
    )
    assert code == 0, errors
    folder = runs.SweepFolder(tmp_path / "sweep")
    importance = folder.summary()["importance"]
    assert importance["trials"] == 12
    assert next(iter(importance["keys"])) == RATE
    ending = printed.splitlines()[-12:]
    assert importance["text"] in " ".join(ending)
    *_, report, figure, best, _ = ending
    assert report == f"  report         {folder.report_file}"
    assert figure == f"  importance     {folder.figures / 'importance.png'}"
    assert (folder.figures / "importance.png").exists()
    assert best.startswith("  best ")
