"""Every command through its real entry point: what it prints, and how it exits."""

import gc
import json
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
from calls import largest_file

from bnzoo.cli.options import config_name, out_folder
from bnzoo.config import starter_configs

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


def test_help_and_listings_import_no_tensorflow():
    for arguments in (
        ["--help"],
        ["train", "--help"],
        ["compare", "--help"],
        ["predict", "--help"],
        ["serve", "--help"],
        ["--version"],
        ["models"],
        ["datasets"],
        ["configs"],
        ["check", "quickstart", "tune_three_conv"],
        ["runs", "."],
        ["explain"],
    ):
        script = (
            f"import sys; sys.argv = ['bnzoo', *{arguments}]\n"
            "from bnzoo.cli import main\n"
            "try: main()\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "assert not {'tensorflow', 'keras', 'matplotlib', 'scipy'} & set(sys.modules)"
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
    models = call("models")[1]
    assert "three_conv" in models
    assert re.search(r"^resnet +32 x 32 x 3 +10 +271,098  ResNet-20", models, re.MULTILINE)
    assert "devanagari_digits" in call("datasets")[1]
    assert "quickstart" in call("configs")[1]


def test_configs_prints_a_starter_that_checks(call, tmp_path):
    code, printed, _ = call("configs", "quickstart")
    assert code == 0
    copy = tmp_path / "mine.yaml"
    copy.write_text(printed)
    assert call("check", copy)[:2] == (0, "1 config checked, no problems.\n")


def test_check_reports_every_problem_of_every_file_and_exits_with_2(call, config_file, tmp_path):
    bad, negative = tmp_path / "bad.yaml", tmp_path / "negative.yaml"
    bad.write_text(CONFIG.replace("epochs", "epoch").replace("digits", "digit"))
    negative.write_text(CONFIG.replace("epochs: 2", "epochs: -2"))
    code, printed, _ = call("check", config_file, bad, negative, "none.yaml")
    lines = printed.splitlines()
    assert (code, len(lines)) == (2, 4)
    assert lines[0].startswith(f"{bad}: data.name: ")
    assert lines[1].startswith(f"{bad}: train.epoch: unknown key")
    assert lines[2].startswith(f"{negative}: train.epochs: ")
    assert lines[3].startswith("none.yaml: no such file.")
    assert call("check", config_file, "--set", "train.epochs=-1")[0] == 2


def test_train_resume_and_export(call, config_file, tmp_path):
    """In this process; test_readme.py does it from a shell, where every line printed counts."""
    train = ("train", config_file, "--out", tmp_path / "run", "--set", "train.epochs=3")
    code, printed, errors = call(*train)
    assert code == 0, errors
    lines = printed.splitlines()
    assert [line for line in lines if re.match(r"epoch [123]/3  accuracy .*val_loss", line)]
    assert any(re.match(r"  test accuracy  0\.\d{4}", line) for line in lines)

    code, printed, _ = call(*train, "--resume")
    assert code == 0
    assert "has already ended" in printed

    code, printed, errors = call("export", tmp_path / "run", "--out", tmp_path / "served")
    assert code == 0, errors
    assert f"Exported to {tmp_path / 'served' / '1'}" in printed


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


# SIGINT stops a study by default: tests/test_studies_cli.py.
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
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


@pytest.mark.parametrize(("error", "is_told"), [(KeyboardInterrupt, False), (ValueError, True)])
def test_an_interrupt_that_python_swallows_is_not_told(monkeypatch, error, is_told):
    from bnzoo.cli.progress import Interruption

    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
    Interruption()

    class Swallowing:
        def __del__(self):
            raise error

    Swallowing()
    gc.collect()
    assert bool(told) is is_told


# Each writes what it needs below the folder it is given, and returns arguments and the message.
BAD_INPUTS = {
    "unknown key": lambda at: (
        ["--set", "train.epoch=1"],
        "train.epoch: unknown key 'epoch'. Did you mean 'epochs'?",
    ),
    "wrong type": lambda at: (
        ["--set", "train.epochs=two"],
        "train.epochs: expected a whole number, got 'two'.",
    ),
    "negative epochs": lambda at: (
        ["--set", "train.epochs=-1"],
        "train.epochs: expected a whole number above 0, got -1.",
    ),
    "unknown model": lambda at: (
        ["--set", "model.name=densee"],
        "got 'densee'. Did you mean 'dense'?",
    ),
    "unknown data set": lambda at: (
        ["--set", "data.name=digitz"],
        "got 'digitz'. Did you mean 'digits'",
    ),
    "unknown placement": lambda at: (
        ["--set", "model.placement=befor"],
        "got 'befor'. Did you mean 'before'?",
    ),
    "missing folder": lambda at: (
        ["--set", f"data.name=folder:{at / 'none'}"],
        f"{at / 'none' / 'train'} does not exist",
    ),
    "missing file": lambda at: (
        ["--set", f"data.name=npz:{at / 'none.npz'}"],
        f"{at / 'none.npz'}: expected an npz file, found no such file. Check the path.",
    ),
    "empty folder": lambda at: (
        ["--set", f"data.name=folder:{image_folder(at, {})}"],
        "has no class folders",
    ),
    "one-class folder": lambda at: (
        ["--set", f"data.name=folder:{image_folder(at, {'cat': [4]})}"],
        "has one class, 'cat'; expected at least two",
    ),
    "unreadable image": lambda at: (
        ["--set", f"data.name=folder:{broken_folder(at)}"],
        f"The image {at / 'images/train/dog/broken.png'} cannot be read",
    ),
    "wrong image size": lambda at: (
        ["--set", f"data.name=folder:{image_folder(at, {'cat': [4, 5], 'dog': [4]})}"],
        "has the shape (5, 5, 1), (height, width, channels); expected (4, 4, 1)",
    ),
    "image too small for the model": lambda at: (
        ["--set", "model={name: lenet}"],
        "expected an input_shape of at least 16 x 16 pixels, got [8, 8, 1]",
    ),
    "labels below the range": lambda at: (
        ["--set", f"data.name=npz:{arrays(at, y_train=[0, -1, 0, 1])}"],
        "-1",
    ),
    "labels above the range": lambda at: (
        ["--set", f"data.name=npz:{arrays(at, class_names=['a', 'b'], y_test=[0, 1, 2, 1])}"],
        "2",
    ),
    "npz without the arrays": lambda at: (
        ["--set", f"data.name=npz:{arrays(at, only=['x_train'])}"],
        "missing: y_train, x_test, y_test",
    ),
    "batch larger than the data": lambda at: (
        ["--set", "data.batch_size=100000"],
        "100000",
    ),
    "output folder that is a file": lambda at: (
        ["--out", taken(at)],
        "expected a folder, got a file",
    ),
    "output folder that is not writable": lambda at: (
        ["--out", "/proc/bnzoo"],
        "expected a folder that can be written",
    ),
    "resume of nothing": lambda at: (["--resume"], "nothing to resume"),
}


def image_folder(at, sizes):
    for split in ("train", "test"):
        (at / "images" / split).mkdir(parents=True)
        for name, sides in sizes.items():
            for number in range(4):
                side = sides[number % len(sides)]
                write_png(at / "images" / split / name / f"{number}.png", side)
    return at / "images"


def broken_folder(at):
    folder = image_folder(at, {"cat": [4], "dog": [4]})
    (folder / "train" / "dog" / "broken.png").write_bytes(b"no image")
    return folder


def arrays(at, only=None, **changes):
    images, labels = np.zeros((4, 2, 2, 1), "uint8"), np.array([0, 1, 0, 1])
    content = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    content |= {name: np.array(value) for name, value in changes.items()}
    np.savez(at / "data.npz", **{name: content[name] for name in only or content})
    return at / "data.npz"


def taken(at):
    (at / "file").write_text("mine")
    return at / "file"


def write_png(path, side):
    import tensorflow as tf

    tf.io.write_file(str(path), tf.io.encode_png(np.zeros((side, side, 1), "uint8")))


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_is_one_clear_error_with_code_2_and_nothing_lost(
    call, config_file, tmp_path, case
):
    if case == "output folder that is not writable" and not Path("/proc").is_dir():
        pytest.skip("needs a folder that even root cannot write, such as /proc")
    arguments, message = BAD_INPUTS[case](tmp_path)
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


@pytest.mark.parametrize("command", ["train", "compare"])
def test_missing_data_is_reported_before_tensorflow_is_started(tmp_path, command):
    environment = {**os.environ, "BNZOO_CACHE_DIR": str(tmp_path), "BNZOO_DATA_DIR": str(tmp_path)}
    # Nothing answers here, whether the machine has a network or not.
    environment |= dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    starter = starter_configs()["three_conv_devanagari"]
    script = (
        f"import sys; sys.argv = ['bnzoo', {command!r}, {str(starter)!r}, '--out', 'run']\n"
        "from bnzoo.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "2 False\n", done.stderr
    assert "devanagari_digits is not prepared" in done.stderr
    assert not (tmp_path / "run").exists()


def test_another_configs_folder_is_refused_with_the_difference(call, config_file, tmp_path):
    out = ("--out", tmp_path / "run")
    assert call("train", config_file, *out)[0] == 0
    code, _, errors = call("train", config_file, *out, "--set", "model.placement=none")
    assert code == 2
    assert "model.placement: before there, none here" in errors


def test_skipping_unreadable_images_continues_and_counts(call, config_file, tmp_path):
    sets = (f"data.name=folder:{broken_folder(tmp_path)}", "data.skip_unreadable=true",
            "data.batch_size=2", "data.validation=none")  # fmt: skip
    words = [word for text in sets for word in ("--set", text)]
    code, printed, errors = call("train", config_file, "--out", tmp_path / "run", *words)
    assert code == 0, errors
    assert "1 unreadable file" in printed


def test_a_reader_that_goes_away_does_not_end_the_run_and_tensorflow_speaks_when_asked_to(
    config_file, tmp_path
):
    script = Path(sysconfig.get_path("scripts")) / "bnzoo"
    command = f"{script} train {config_file} --out {tmp_path / 'run'} | head -1"
    environment = os.environ | {QUIET: "0"}
    done = subprocess.run(
        command, shell=True, check=True, capture_output=True, text=True, env=environment
    )
    assert '"status": "completed"' in (tmp_path / "run" / "summary.json").read_text()
    assert "oneDNN" in done.stderr


def test_training_works_on_keras_jax_backend(config_file, tmp_path):
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    done = run("train", config_file, "--out", tmp_path / "run", env=environment)
    assert done.returncode == 0, done.stderr
    assert "Completed 2 epochs" in done.stdout


SECTIONS = """
compare: {variants: {none: {model.placement: none}}, seeds: [0]}
tune: {algorithm: grid, objective: {name: val_accuracy, direction: max}, space: {train.epochs: [2]}}
"""


@pytest.mark.parametrize("command", ["train", "compare", "tune"])
def test_a_full_disk_is_one_line_and_the_work_goes_on_afterwards(
    call, config_file, tmp_path, command
):
    config_file.write_text(CONFIG + SECTIONS)
    started = (command, config_file, "--out", tmp_path / "out")
    with largest_file(10_000):
        code, printed, errors = call(*started)
    assert code == 1
    assert errors.count("\n") == 1, errors
    assert re.match(rf"bnzoo {command}: /.*: File too large \([\d,.]+ MB are free\)\. ", errors)
    go_on = ["--resume"] if (tmp_path / "out" / "config.yaml").exists() else []
    assert (f"--out {tmp_path / 'out'} --resume" in printed) == bool(go_on)
    assert not list(tmp_path.rglob("*.partial*"))
    code, _, errors = call(*started, *go_on)
    assert code == 0, errors


def test_a_full_disk_stops_an_export_with_one_line_and_nothing_is_left(call, config_file, tmp_path):
    assert call("train", config_file, "--out", tmp_path / "run")[0] == 0
    with largest_file(2_000):
        code, _, errors = call("export", tmp_path / "run", "--out", tmp_path / "served")
    assert code == 1
    assert errors.count("\n") == 1, errors
    assert re.match(r"bnzoo export: /.*: File too large .*Make room", errors)
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("train", ["--set", "data.name=folder:none"]),
        ("train", ["--set", "data.batch_size=100000"]),
        ("train", ["--set", "model={name: lenet}"]),
        ("compare", ["--set", "data.batch_size=100000"]),
        ("tune", ["--set", "data.batch_size=100000"]),
    ],
)
def test_an_error_of_the_data_leaves_no_folder(
    call, config_file, tmp_path, monkeypatch, command, options
):
    monkeypatch.chdir(tmp_path)
    config_file.write_text(CONFIG + SECTIONS)
    assert call(command, config_file, *options)[0] == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize("command", ["train", "export", "tune"])
def test_errors_come_without_tensorflows_start_up_lines(config_file, tmp_path, command):
    config_file.write_text(CONFIG + SECTIONS)
    environment = {key: value for key, value in os.environ.items() if key != QUIET}
    environment |= {"KERAS_BACKEND": "none"}
    done = run(command, config_file, "--out", tmp_path / "out", env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"bnzoo {command}: KERAS_BACKEND: expected tensorflow or jax, got 'none'. Set it to one of "
        "them, or unset it for tensorflow.\n"
    )


def test_train_says_which_weights_it_keeps(call):
    printed = " ".join(call("train", "--help")[1].split())
    assert "has the weights of the last epoch" in printed


def test_export_refuses_what_is_no_model(call, tmp_path):
    code, _, errors = call("export", tmp_path / "none", "--out", tmp_path / "served")
    assert code == 2
    assert errors.startswith("bnzoo export: ")


def test_unknown_commands_and_options_exit_with_2(call):
    assert call("trian")[0] == 2
    assert call("train", "--fast")[0] == 2


UNFIT = {
    "images for sequences": (
        {"data.name": "mnist", "model.name": "conv1d"},
        "model: conv1d: expected data of shape (steps, features), got (28, 28, 1). "
        "Set data.view: rows, or choose another model.",
    ),
    "images of any size for sequences": (
        {"data.name": "folder:images", "model.name": "conv1d"},
        "got (any, any, any). Set data.view: rows",
    ),
    "sequences for images": (
        {"data.name": "cifar10", "data.view": "rows", "model.name": "lenet"},
        "expected data of shape (height, width, channels), got (32, 96). Set data.view: image",
    ),
    "images too small": (
        {"model.name": "lenet"},
        "expected an input_shape of at least 16 x 16 pixels, got [8, 8, 1]",
    ),
    "too few classes": ({"model.classes": "9"}, "classes: expected at least the data's 10, got 9"),
    "more steps than there are": (
        {"data.view": "rows", "data.min_length": "9"},
        "data.min_length: expected at most the 8 steps of digits, got 9. Lower it.",
    ),
    "an unknown set of TFDS": (
        {"data.name": "tfds:nope"},
        "TensorFlow Datasets has no data set 'nope'.",
    ),
    "a set of TFDS for sequences": (
        {"data.name": "tfds:cifar100", "model.name": "conv1d"},
        "got (any, any, any). Set data.view: rows",
    ),
    "a set of TFDS with more classes": (
        {"data.name": "tfds:cifar100", "model.classes": "10"},
        "classes: expected at least the data's 100, got 10",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_check_and_train_refuse_data_that_the_model_cannot_take(call, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("data: {name: digits}\nmodel: {name: dense}\n")
    changes, message = UNFIT[case]
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    code, printed, _ = call("check", "c.yaml", *sets)
    assert code == 2
    assert printed.startswith("c.yaml: ")
    assert message in printed
    code, _, errors = call("train", "c.yaml", *sets)
    assert code == 2
    assert errors == f"bnzoo train: {printed}"
    assert not Path("runs").exists()


def test_a_run_folder_is_a_config_and_is_not_overwritten(call, config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("train", config_file, "--set", "seed=7")[0] == 0
    first = {path: path.read_bytes() for path in Path("runs/small").iterdir() if path.is_file()}
    assert call("check", "runs/small")[:2] == (0, "1 config checked, no problems.\n")
    # Adam's keys are all in config.yaml, and SGD does not know them.
    code, printed, errors = call("train", "runs/small", "--set", "train.optimizer.name=sgd")
    assert code == 0, errors
    assert "run folder     runs/small-2" in printed
    text = Path("runs/small-2/config.yaml").read_text()
    assert "seed: 7" in text
    assert "name: sgd" in text
    assert first == {path: path.read_bytes() for path in first}
    assert "runs/small-3" in call("train", "runs/small", "--set", "train.epochs=1")[1]
    code, printed, _ = call("train", "runs/small", "--resume")
    assert code == 0
    assert "runs/small has already ended" in printed


def test_a_folder_without_a_config_is_one_clear_error(call, tmp_path):
    code, _, errors = call("train", tmp_path)
    assert code == 2
    assert "Name a config file, or the folder of a run, study or sweep." in errors


@pytest.mark.parametrize("command", ["train", "compare", "tune", "check"])
def test_a_missing_file_names_the_starters_close_to_it(call, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    code, printed, errors = call(command, "quickstrt")
    assert code == 2
    assert "quickstrt: no such file. Did you mean 'quickstart'?" in printed + errors


def test_a_starters_name_is_a_config_where_there_is_no_such_file(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("check", "quickstart")[0] == 0
    small = ["train.epochs=1", "train.tensorboard=false", "model={name: dense, units: [4]}"]
    sets = [word for text in small for word in ("--set", text)]
    assert call("train", "quickstart", *sets)[0] == 0
    assert Path("runs/quickstart/summary.json").exists()
    Path("quickstart").write_text("mine: 1\n")
    code, printed, _ = call("check", "quickstart")
    assert code == 2
    assert "quickstart: mine: unknown key" in printed


def test_configs_prints_a_schema_that_describes_every_key(call):
    code, printed, _ = call("configs", "--schema")
    assert code == 0
    schema = json.loads(printed)
    sections = [schema, *schema["$defs"].values()]
    keys = [key for section in sections for key in section["properties"].values()]
    assert len(keys) > 100
    assert all(key["description"].strip() for key in keys)
    assert "yaml-language-server" in call("configs", "--help")[1]


def test_the_schema_stands_for_what_is_checked(call):
    adam = json.loads(call("configs", "--schema")[1])["$defs"]["Adam"]["properties"]
    assert adam["learning_rate"]["exclusiveMinimum"] == 0
    assert adam["learning_rate"]["description"].startswith("step size")
    assert adam["name"]["const"] == "adam"


@pytest.mark.parametrize("command", ["train", "compare", "tune"])
def test_where_out_goes_is_said_in_the_help(call, command):
    printed = " ".join(re.sub(r"[│|]", " ", call(command, "--help")[1]).split())
    assert "nothing is overwritten" in printed
    assert "with --resume, CONFIG itself" in printed


def test_out_of_a_folder_is_a_new_one_unless_it_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "net.v1").mkdir(parents=True)
    folder = Path("runs/net.v1")
    assert out_folder(folder, None, resume=False) == Path("runs/net.v1-2")
    Path("runs/net.v1-2").mkdir()
    assert out_folder(folder, None, resume=False) == Path("runs/net.v1-3")
    assert out_folder(folder, None, resume=True) == folder
    assert out_folder(folder, Path("mine"), resume=True) == Path("mine")
    assert out_folder(Path("quickstart"), None, resume=False) == Path("runs/quickstart")
    assert config_name(folder) == "net.v1"
    monkeypatch.chdir(folder)
    assert config_name(Path(".")) == "net.v1"


def test_a_worker_of_a_folders_sweep_must_be_told_where(call, config_file, tmp_path, monkeypatch):
    tune = (
        "{algorithm: grid, objective: {name: val_loss, direction: min}, space: {train.epochs: [1]}}"
    )
    text = CONFIG + f"tune: {tune}\n"
    (tmp_path / "config.yaml").write_text(text)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    code, _, errors = call("tune", tmp_path)
    assert code == 2
    assert "expected --out where CONFIG is a folder" in errors
