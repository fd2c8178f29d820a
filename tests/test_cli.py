"""Every command through its real entry point: what it prints, and how it exits."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest

from bnzoo import cli

QUIET = "TF_CPP_MIN_LOG_LEVEL"  # conftest.py sets it, users do not

CONFIG = """
data: {name: digits, batch_size: 256, validation: 0.2}
model: {name: dense, units: [8]}
train: {epochs: 2, optimizer: {name: adam}, tensorboard: false}
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def run(*arguments, **options):
    """Start `bnzoo` as a user does, in a process of its own."""
    script = Path(sysconfig.get_path("scripts")) / "bnzoo"
    environment = {key: value for key, value in os.environ.items() if key != QUIET}
    return subprocess.run(
        [str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        **({"env": environment} | options),
    )


@pytest.fixture
def call(monkeypatch, capfd):
    """Run the same entry point in this process, where starting TensorFlow again costs nothing."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bnzoo", *map(str, arguments)])
        before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            cli.main()
        except SystemExit as end:
            return end.code or 0, *capfd.readouterr()
        finally:
            for number, handler in before:
                signal.signal(number, handler)
        raise AssertionError("main() returned")

    return call


def test_help_and_listings_import_no_tensorflow():
    for arguments in (
        ["--help"],
        ["train", "--help"],
        ["compare", "--help"],
        ["--version"],
        ["models"],
        ["datasets"],
    ):
        script = (
            f"import sys; sys.argv = ['bnzoo', *{arguments}]\n"
            "from bnzoo.cli import main\n"
            "try: main()\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_python_dash_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "bnzoo", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == run("--version").stdout
    assert re.fullmatch(r"bnzoo \S+\nTensorFlow 2\.\S+\nKeras 3\.\S+\n", done.stdout)


def test_models_datasets_and_configs_list_what_there_is(call):
    assert "three_conv" in call("models")[1]
    assert "devanagari_digits" in call("datasets")[1]
    assert "quickstart" in call("configs")[1]


def test_configs_prints_a_starter_that_checks(call, tmp_path):
    code, printed, _ = call("configs", "quickstart")
    assert code == 0
    copy = tmp_path / "mine.yaml"
    copy.write_text(printed)
    assert call("check", copy)[:2] == (0, "1 config checked, no problems.\n")


def test_check_reports_every_problem_and_exits_with_2(call, config_file, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(CONFIG.replace("epochs", "epoch").replace("digits", "digit"))
    code, printed, _ = call("check", config_file, bad)
    assert code == 2
    assert f"{bad}: data.name: " in printed
    assert f"{bad}: train.epoch: unknown key" in printed
    assert str(config_file) not in printed
    assert call("check", config_file, "--set", "train.epochs=-1")[0] == 2


def test_train_export_and_resume_from_the_shell(config_file, tmp_path):
    out = tmp_path / "run"
    done = run("train", config_file, "--out", out, "--set", "train.epochs=3")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no start-up messages of TensorFlow
    lines = done.stdout.splitlines()
    assert [line for line in lines if re.match(r"epoch [123]/3  accuracy .*val_loss", line)]
    assert any(re.match(r"  test accuracy  0\.\d{4}", line) for line in lines)

    again = run("train", config_file, "--out", out, "--set", "train.epochs=3", "--resume")
    assert again.returncode == 0
    assert "has already ended" in again.stdout

    done = run("export", out, "--out", tmp_path / "served")
    assert done.returncode == 0, done.stderr
    assert f"Exported to {tmp_path / 'served' / '1'}" in done.stdout
    assert done.stderr == ""


def test_out_defaults_to_the_configs_name(call, config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("train", config_file)[0] == 0
    assert (tmp_path / "runs" / "small" / "summary.json").exists()


def test_a_config_with_a_study_trains_whatever_its_variants_become(call, config_file, tmp_path):
    config_file.write_text(CONFIG + "compare: {variants: {none: {model.placement: none}}}\n")
    out = ("--out", tmp_path / "run", "--set", "model.placement=none", "--set", "train.epochs=1")
    assert call("train", config_file, *out)[0] == 0
    assert "compare: null" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_diverged_run_says_so_and_exits_with_1(call, config_file, tmp_path):
    wild = ["train.optimizer={name: sgd, learning_rate: 1e30}", "model.placement=none"]
    sets = [word for text in wild for word in ("--set", text)]
    code, printed, _ = call("train", config_file, "--out", tmp_path / "run", *sets)
    assert code == 1
    assert re.search(r"Diverged: .* at step \d+ \(epoch 1\)", printed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_exits_with_130_and_says_how_to_go_on(config_file, tmp_path, number):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "bnzoo", "train", str(config_file), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--set", "train.epochs=5000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    history = out / "history.csv"
    while not (history.exists() and history.read_text().count("\n") > 2):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "bnzoo train: interrupted." in errors
    assert "Traceback" not in errors
    assert "Continue with: bnzoo train" in printed
    assert "--set train.epochs=5000 --resume" in printed
    assert '"status": "interrupted"' in (out / "summary.json").read_text()


def bad_inputs(tmp_path):
    """Name, arguments after `train CONFIG`, and what the message must say."""
    (tmp_path / "file").write_text("mine")
    for split in ("train", "test"):
        (tmp_path / "empty" / split).mkdir(parents=True)
        (tmp_path / "one_class" / split / "cat").mkdir(parents=True)
        (tmp_path / "broken" / split / "cat").mkdir(parents=True)
        (tmp_path / "broken" / split / "dog").mkdir(parents=True)
        for name in ("one_class/{}/cat", "broken/{}/cat", "broken/{}/dog"):
            write_png(tmp_path / name.format(split) / "a.png")
            write_png(tmp_path / name.format(split) / "b.png")
    (tmp_path / "broken" / "train" / "dog" / "c.png").write_bytes(b"no image")
    np.savez(tmp_path / "few.npz", x_train=np.zeros((4, 2, 2, 1), "uint8"))
    images, labels = np.zeros((4, 2, 2, 1), "uint8"), np.array([0, 1, 0, 1])
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "labels.npz", **arrays | {"y_train": -labels})
    return [
        (["--set", "train.epoch=1"], "train.epoch: unknown key 'epoch'. Did you mean 'epochs'?"),
        (["--set", "train.epochs=-1"], "train.epochs: expected a number above 0, got -1."),
        (["--set", "train.epochs=two"], "train.epochs: expected an integer, got 'two'."),
        (["--set", "model.name=densee"], "Did you mean 'dense' or 'lenet'?"),
        (["--set", "data.name=digitz"], "Did you mean 'digits'"),
        (["--set", "model.placement=befor"], "Did you mean 'before'?"),
        (["--set", f"data.name=folder:{tmp_path / 'none'}"], str(tmp_path / "none")),
        (["--set", f"data.name=npz:{tmp_path / 'none.npz'}"], str(tmp_path / "none.npz")),
        (["--set", f"data.name=folder:{tmp_path / 'empty'}"], str(tmp_path / "empty")),
        (["--set", f"data.name=folder:{tmp_path / 'one_class'}"], "class"),
        (["--set", f"data.name=folder:{tmp_path / 'broken'}"], "c.png"),
        (["--set", f"data.name=npz:{tmp_path / 'few.npz'}"], "y_train"),
        (["--set", f"data.name=npz:{tmp_path / 'labels.npz'}"], "-1"),
        (["--set", "data.batch_size=100000"], "100000"),
        (["--set", "data.image_size=[0, 8]"], "data.image_size"),
        (["--set", "model={name: lenet, input_shape: [4, 4, 1]}"], "4, 4"),
        (["--out", str(tmp_path / "file")], "expected a folder, got a file"),
        (["--resume"], "nothing to resume"),
    ]


def write_png(path):
    import tensorflow as tf

    tf.io.write_file(str(path), tf.io.encode_png(np.zeros((4, 4, 1), "uint8")))


@pytest.mark.parametrize("case", range(18))
def test_bad_input_is_one_clear_error_with_code_2_and_nothing_lost(
    call, config_file, tmp_path, case
):
    arguments, message = bad_inputs(tmp_path)[case]
    if "--out" not in arguments:
        arguments = [*arguments, "--out", tmp_path / "run"]
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    code, printed, errors = call("train", config_file, *arguments)
    assert code == 2, (printed, errors)
    assert errors.startswith("bnzoo train: ")
    assert message in errors
    assert "Traceback" not in errors
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_a_missing_config_is_one_clear_error(call, tmp_path):
    code, _, errors = call("train", tmp_path / "none.yaml")
    assert code == 2
    assert "none.yaml: no such file" in errors


def test_another_configs_folder_is_refused_with_the_difference(call, config_file, tmp_path):
    out = ("--out", tmp_path / "run")
    assert call("train", config_file, *out)[0] == 0
    code, _, errors = call("train", config_file, *out, "--set", "model.placement=none")
    assert code == 2
    assert "model.placement: before there, none here" in errors


def test_skipping_unreadable_images_continues_and_counts(call, config_file, tmp_path):
    bad_inputs(tmp_path)
    sets = (f"data.name=folder:{tmp_path / 'broken'}", "data.skip_unreadable=true",
            "data.batch_size=2", "data.validation=none")  # fmt: skip
    words = [word for text in sets for word in ("--set", text)]
    code, printed, errors = call("train", config_file, "--out", tmp_path / "run", *words)
    assert code == 0, errors
    assert "1 unreadable file" in printed


def test_export_refuses_what_is_no_model(call, tmp_path):
    code, _, errors = call("export", tmp_path / "none", "--out", tmp_path / "served")
    assert code == 2
    assert errors.startswith("bnzoo export: ")


def test_unknown_commands_and_options_exit_with_2(call):
    assert call("trian")[0] == 2
    assert call("train", "--fast")[0] == 2


def test_tensorflows_messages_come_back_when_asked_for(config_file, tmp_path):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"}
    done = run("train", config_file, "--out", tmp_path / "run", env=environment)
    assert done.returncode == 0
    assert "oneDNN" in done.stderr
