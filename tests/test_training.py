"""A run from its config to its folder: records, stopping, divergence, resuming."""

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config  # asking is not public

from bnzoo import config, files, load_model, runs
from bnzoo.errors import InputError
from bnzoo.saving import load_keras_file, save_model
from bnzoo.training import findings, train
from bnzoo.training.building import build_for, load_data
from bnzoo.training.settings import run_settings

TREE = {
    "seed": 7,
    "data": {"name": "digits", "validation": 0.2, "batch_size": 256},
    "model": {"name": "dense", "units": [8]},
    "train": {"epochs": 2, "optimizer": {"name": "adam"}, "tensorboard": False},
}


def make_config(**changes):
    """Build the small config with dotted keys changed; `__` stands for a dot."""
    pairs = [(key.replace("__", "."), value) for key, value in changes.items()]
    return config.validate(config.apply_overrides(TREE, pairs), source="test")


def history_without_seconds(folder):
    return [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in runs.RunFolder(folder).history()
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One completed run, with TensorBoard and a followed weight."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    followed = [{"layer": "logits", "weight": "kernel", "index": [0, 3]}]
    changed = make_config(train__tensorboard=True, train__follow_weights=followed)
    lines = []
    summary = train(changed, folder, announce=lines.append)
    return changed, folder, summary, lines


def test_the_run_folder_holds_what_others_rely_on(finished):
    checked, folder, summary, _ = finished
    names = {entry.name for entry in folder.iterdir()}
    assert names == {
        "config.yaml",
        "data.json",
        "history.csv",
        "model.keras",
        "summary.json",
        "weights_path.csv",
        "tensorboard",
    }
    assert config.load_config(folder / "config.yaml") == checked
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "epoch",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
        "seconds",
    ]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[0]["learning_rate"]) == pytest.approx(0.001)
    assert json.loads((folder / "summary.json").read_text()) == summary


def test_the_summary_tells_what_was_run_and_what_came_out(finished):
    _, folder, summary, _ = finished
    rows = runs.RunFolder(folder).history()
    assert summary["status"] == "completed"
    assert summary["epochs"] == 2
    assert summary["steps"] == 2 * 5  # ceil(1150 training digits / 256)
    assert summary["final"] == rows[-1]
    assert summary["best"]["metric"] == "val_accuracy"
    assert set(summary["test"]) == {"loss", "accuracy"}
    assert summary["parameters"] == load_model(folder).count_params()
    assert summary["versions"]["keras"] == keras.__version__
    assert {"cpu", "cores"} <= set(summary["machine"])
    assert summary["protocol"].startswith("validation on 0.2 of the training set")
    assert summary["data"]["class_names"] == [str(digit) for digit in range(10)]


def test_a_run_of_a_config_with_a_study_leaves_the_study_aside(tmp_path):
    variants = {"none": {"model.placement": "none"}}
    train(make_config(compare={"variants": variants}, train__epochs=1), tmp_path)
    assert runs.RunFolder(tmp_path).config() == make_config(train__epochs=1)


def test_the_saved_model_scores_what_the_summary_says(finished):
    checked, folder, summary, _ = finished
    from bnzoo import data

    splits = data.load(**checked.data.model_dump(), seed=checked.seed)
    scores = load_model(folder).evaluate(splits.test, verbose=0, return_dict=True)
    assert scores == pytest.approx(summary["test"], rel=1e-6)


def test_the_followed_weight_ends_where_the_model_has_it(finished):
    _, folder, _, _ = finished
    rows = files.read_rows(folder / "weights_path.csv")
    last = float(load_model(folder).get_layer("logits").kernel.numpy()[0, 3])
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[-1]["logits/kernel[0,3]"] == last
    assert rows[0]["logits/kernel[0,3]"] != last
    assert rows[-1]["loss"] == runs.RunFolder(folder).history()[-1]["loss"]


def test_tensorboard_files_hold_the_epochs(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished[1] / "tensorboard" / "train"))
    events.Reload()
    assert "epoch_loss" in events.Tags()["tensors"]


def test_what_is_about_to_happen_is_announced(finished):
    text = "\n".join(finished[3])
    assert "digits" in text
    assert "2 epochs of 5 steps" in text


def test_resuming_a_finished_run_changes_nothing(finished):
    checked, folder, summary, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert train(checked, folder, resume=True) == summary
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path):
    for name, seed in (("one", 7), ("again", 7), ("other", 8)):
        train(make_config(seed=seed), tmp_path / name)
    one, again, other = (
        history_without_seconds(tmp_path / name) for name in ("one", "again", "other")
    )
    assert [row["loss"] for row in one] == pytest.approx([row["loss"] for row in again], rel=1e-5)
    assert one[0]["loss"] != pytest.approx(other[0]["loss"], rel=1e-5)


def test_a_completed_run_without_its_model_says_the_same_way_out_everywhere(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished[1], copy)
    (copy / "model.keras").unlink()
    before = sorted(copy.rglob("*"))
    found = []
    for use in (lambda: train(finished[0], copy, resume=True), lambda: load_model(copy)):
        with pytest.raises(InputError, match=r"run is completed and has no model\.keras") as error:
            use()
        found.append(str(error.value))
    assert found[0] == found[1]
    assert f"`bnzoo train {copy / 'config.yaml'} --out {copy}-again`" in found[0]
    assert sorted(copy.rglob("*")) == before
    again = train(config.load_config(copy / "config.yaml"), f"{copy}-again")
    assert again["status"] == "completed"


@pytest.mark.parametrize("momentum", [0.99, 0.2])
def test_a_run_ends_with_the_problems_of_its_batch_normalization(tmp_path, momentum):
    lines, changes = [], {"model__batch_norm": {"momentum": momentum}}
    summary = train(make_config(train__epochs=1, **changes), tmp_path, announce=lines.append)
    told = [line.removeprefix("problem: ") for line in lines if line.startswith("problem: ")]
    assert told == [one["line"] for one in summary["findings"]]
    assert json.loads((tmp_path / "summary.json").read_text())["findings"] == summary["findings"]
    if momentum == 0.99:
        found = {one["kind"]: one["line"] for one in summary["findings"]}
        assert {"far_statistics", "few_steps"} <= found.keys()
        assert len(summary["findings"]) == len(found)
        assert "the moving statistics are still 95 % what they were" in found["few_steps"]
        assert "set the momentum to 0.54 or lower" in found["few_steps"]
    else:
        assert told == []


def test_without_batch_normalization_nothing_is_diagnosed(tmp_path, monkeypatch):
    monkeypatch.setattr(findings, "diagnose", None)
    summary = train(make_config(train__epochs=1, model__placement="none"), tmp_path)
    assert summary["findings"] == []


def test_a_diagnosis_that_fails_costs_no_training(tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("a layer of one's own. And more")

    monkeypatch.setattr(findings, "diagnose", fails)
    lines = []
    summary = train(make_config(train__epochs=1), tmp_path, announce=lines.append)
    assert summary["status"] == "completed"
    assert "Batch normalization could not be diagnosed: a layer of one's own." in lines


def test_one_epoch_is_not_called_epochs(tmp_path):
    lines = []
    train(make_config(train__epochs=1), tmp_path, announce=lines.append)
    assert any("Run: 1 epoch of 5 steps" in line for line in lines)


class _Interrupt(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self._where, self._epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._epoch, batch) == self._where:
            raise KeyboardInterrupt


def test_an_interrupted_run_is_recorded_and_can_be_resumed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(make_config(train__epochs=3), tmp_path, callbacks=[_Interrupt(1, 2)])
    folder = runs.RunFolder(tmp_path)
    assert folder.status() == "interrupted"
    assert folder.summary()["epochs"] == 1
    with pytest.raises(InputError, match=r"run is interrupted and has no model\.keras.*--resume"):
        load_model(tmp_path)
    summary = train(make_config(train__epochs=3), tmp_path, resume=True)
    assert summary["status"] == "completed"
    assert [row["epoch"] for row in folder.history()] == [1, 2, 3]
    assert not folder.checkpoints.exists()


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_row_without_its_checkpoint_is_run_again(tmp_path, epoch):
    """A crash between the two writes leaves one row too many; it must not stand twice."""
    with pytest.raises(KeyboardInterrupt):
        train(make_config(train__epochs=3), tmp_path, callbacks=[_Interrupt(epoch, 0)])
    folder = runs.RunFolder(tmp_path)
    rows = files.RowFile(folder.history_file, runs.HISTORY_COLUMNS, keep_epochs=99)
    rows.append({"epoch": epoch + 1, "loss": 99.0, "seconds": 0.1})
    train(make_config(train__epochs=3), tmp_path, resume=True)
    assert [row["epoch"] for row in folder.history()] == [1, 2, 3]
    assert all(row["loss"] < 99 for row in folder.history())


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(tmp_path):
    wild = make_config(
        train__optimizer={"name": "sgd", "learning_rate": 1e30}, model__placement="none"
    )
    summary = train(wild, tmp_path)
    assert summary["status"] == "diverged"
    assert summary["diverged"]["epoch"] == 1
    assert 2 <= summary["diverged"]["step"] <= 5
    assert summary["steps"] == summary["diverged"]["step"]
    assert summary["test"] is None
    with pytest.raises(InputError, match=r"run is diverged and has no model\.keras"):
        load_model(tmp_path)
    assert train(wild, tmp_path, resume=True)["status"] == "diverged"


def test_weights_ruined_by_the_very_last_update_are_a_divergence_too(tmp_path):
    """Without validation nothing is measured after it but the test set."""
    wild = make_config(
        data__validation="none",
        data__batch_size=1438,
        model__placement="none",
        train__epochs=1,
        train__optimizer={"name": "sgd", "learning_rate": 1e38},
    )
    summary = train(wild, tmp_path)
    assert summary["status"] == "diverged"
    assert summary["diverged"] == {"epoch": 1, "step": 1}
    assert not (tmp_path / "model.keras").exists()


def test_a_run_resumed_on_changed_images_is_refused(tmp_path):
    images = tmp_path / "images"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(4):
                pixels = np.full((8, 8, 1), 40 * number, "uint8")
                path = images / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tf.io.encode_png(pixels).numpy())
    changed = make_config(
        data__name=f"folder:{images}", data__batch_size=2, data__validation="none"
    )
    with pytest.raises(KeyboardInterrupt):
        train(changed, tmp_path / "run", callbacks=[_Interrupt(1, 0)])
    (images / "train" / "cat" / "0.png").write_bytes(tf.io.encode_png(pixels).numpy())
    with pytest.raises(InputError, match=r"fingerprint: \w{8} there, \w{8} now"):
        train(changed, tmp_path / "run", resume=True)
    assert len(runs.RunFolder(tmp_path / "run").history()) == 1


def test_early_stopping_keeps_the_best_epochs_weights(tmp_path):
    patient = make_config(
        train__epochs=30,
        train__optimizer={"name": "sgd", "learning_rate": 3.0},
        train__early_stopping={"monitor": "val_loss", "patience": 2},
    )
    summary = train(patient, tmp_path)
    losses = [row["val_loss"] for row in runs.RunFolder(tmp_path).history()]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + 2 < 30
    assert summary["model_epoch"] == best
    from bnzoo import data

    splits = data.load(**patient.data.model_dump(), seed=patient.seed)
    found = load_model(tmp_path).evaluate(splits.validation, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(losses[best - 1], rel=1e-5)


def test_a_run_resumed_past_its_early_stop_trains_no_further(tmp_path):
    stopping = make_config(
        train__epochs=9, train__early_stopping={"monitor": "val_loss", "patience": 1}
    )

    class Stop(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            raise KeyboardInterrupt

    never_better = [{"epoch": 1, "val_loss": 0.0}, {"epoch": 2, "val_loss": 1.0}]
    with pytest.raises(KeyboardInterrupt):
        train(stopping, tmp_path, callbacks=[_Interrupt(1, 0), Stop()])
    folder = runs.RunFolder(tmp_path)
    model = load_keras_file(folder.checkpoint(1))
    for epoch in (1, 2):
        save_model(model, folder.checkpoint(epoch))  # as older versions did, without the history
    rows = files.RowFile(folder.history_file, runs.HISTORY_COLUMNS, keep_epochs=0)
    for row in never_better:
        rows.append(
            dict.fromkeys(("loss", "accuracy", "val_accuracy", "learning_rate", "seconds"), 0.5)
            | row
        )
    summary = train(stopping, tmp_path, resume=True)
    assert summary["epochs"] == 2
    assert summary["model_epoch"] == 1


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ({"name": "step", "epochs": [1, 3], "factor": 0.5}, [1.0, 0.5, 0.5, 0.25]),
        ({"name": "exponential", "decay_rate": 0.5}, [1.0, 0.5, 0.25, 0.125]),
        ("cosine", [1.0, 0.8535534, 0.5, 0.1464466]),
        ({"name": "cosine", "warmup_epochs": 2, "alpha": 0.1}, [0.0, 0.5, 1.0, 0.55]),
    ],
)
def test_schedules_have_the_stated_rate_as_each_epoch_begins(schedule, expected):
    from bnzoo.training.compiling import build_optimizer

    section = make_config(
        train__epochs=4,
        train__schedule=schedule,
        train__optimizer={"name": "sgd", "learning_rate": 1.0},
    ).train
    optimizer = build_optimizer(section, steps_per_epoch=10)
    rates = []
    for epoch in range(4):
        optimizer.iterations.assign(epoch * 10)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx(expected, abs=1e-6)


def test_the_history_records_the_rate_an_epoch_began_with(tmp_path):
    train(make_config(train__schedule={"name": "step", "epochs": [1]}), tmp_path)
    rates = [row["learning_rate"] for row in runs.RunFolder(tmp_path).history()]
    assert rates == pytest.approx([0.001, 0.0001])


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("optional", ["weight_decay", "global_clipnorm"])
def test_every_optimizer_is_built_whatever_its_config_accepts(name, optional):
    from bnzoo.training.compiling import build_optimizer

    try:
        section = make_config(
            train__optimizer={"name": name, optional: None, "learning_rate": 0.5}
        ).train
    except InputError:
        assert (name, optional) == ("adamw", "weight_decay")  # Keras' AdamW wants a number
    else:
        assert float(build_optimizer(section, steps_per_epoch=10).learning_rate) == 0.5


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_every_optimizer_is_built_with_the_configs_values(name):
    from bnzoo.training.compiling import build_optimizer

    section = make_config(
        train__optimizer={"name": name, "learning_rate": 0.25, "global_clipnorm": 2.0}
    ).train
    optimizer = build_optimizer(section, steps_per_epoch=10)
    assert type(optimizer).__name__.lower() == name
    assert float(optimizer.learning_rate) == 0.25
    assert optimizer.global_clipnorm == 2.0


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_resumes_and_is_put_back(tmp_path, precision):
    before = keras.config.dtype_policy().name
    changed = make_config(train__precision=precision, train__epochs=2)
    with pytest.raises(KeyboardInterrupt):
        train(changed, tmp_path, callbacks=[_Interrupt(1, 0)])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Skipping variable loading")
        summary = train(changed, tmp_path, resume=True)
        load_model(tmp_path)
    assert summary["status"] == "completed"
    assert load_model(tmp_path).get_layer("dense_1").compute_dtype in precision
    assert keras.config.dtype_policy().name == before


def test_a_jit_compiled_run_works(tmp_path):
    assert train(make_config(train__jit_compile=True, train__epochs=1), tmp_path)["test"]


@pytest.mark.parametrize(
    ("followed", "message"),
    [
        ({"layer": "logit", "index": [0, 0]}, "no layer named 'logit'.*Did you mean 'logits'"),
        ({"layer": "logits", "weight": "gamma", "index": [0]}, "expected one of kernel, bias"),
        ({"layer": "logits", "index": [0]}, r"of shape \[8, 10\], got \[0\]"),
        ({"layer": "logits", "index": [8, 0]}, r"of shape \[8, 10\], got \[8, 0\]"),
    ],
)
def test_a_followed_weight_that_does_not_exist_is_refused_before_anything_is_written(
    tmp_path, followed, message
):
    with pytest.raises(InputError, match=message):
        train(make_config(train__follow_weights=[followed]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_fit_the_data_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"input_shape: expected .*8, 8, 1"):
        train(make_config(model__input_shape=[784]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_validation_the_columns_stay_empty(tmp_path):
    summary = train(make_config(data__validation="none", train__epochs=1), tmp_path)
    assert runs.RunFolder(tmp_path).history()[0]["val_loss"] is None
    assert summary["best"]["metric"] == "accuracy"
    assert summary["protocol"].startswith("no validation")


def test_the_published_protocol_is_labelled(tmp_path):
    summary = train(make_config(data__validation="test", train__epochs=1), tmp_path)
    assert summary["protocol"].startswith("published protocol")
    assert summary["final"]["val_accuracy"] == pytest.approx(summary["test"]["accuracy"])


DETERMINISTIC = """
seed: 3
data: {name: digits, batch_size: 32, validation: 0.2}
model: {name: three_conv, filters: [4, 4, 4]}
train:
  epochs: 6
  deterministic: true
  optimizer: {name: adam}
  schedule: cosine
  early_stopping: {monitor: val_loss, patience: 4}
"""


def test_determinism_ends_with_its_run(tmp_path):
    """While it lasts TensorFlow refuses random numbers without a seed, and Keras XLA."""
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(tf_config.is_op_determinism_enabled())

    config = make_config(train__deterministic=True, train__epochs=1)
    train(config, tmp_path, callbacks=[Look()])
    assert [*seen, tf_config.is_op_determinism_enabled()] == [True, False]


@pytest.mark.slow
def test_a_killed_deterministic_run_resumes_to_the_history_of_an_undisturbed_one(tmp_path):
    config_file = tmp_path / "run.yaml"
    config_file.write_text(DETERMINISTIC)
    command = [sys.executable, "-m", "bnzoo", "train", str(config_file), "--out"]
    subprocess.run([*command, tmp_path / "whole"], check=True, capture_output=True)

    killed = runs.RunFolder(tmp_path / "killed")
    process = subprocess.Popen([*command, killed.path], stdout=subprocess.DEVNULL)
    while len(killed.history()) < 2 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert 2 <= len(killed.history()) < 6
    subprocess.run([*command, killed.path, "--resume"], check=True, capture_output=True)

    assert history_without_seconds(killed.path) == history_without_seconds(tmp_path / "whole")
    whole, resumed = (runs.RunFolder(tmp_path / name).summary() for name in ("whole", "killed"))
    assert resumed["test"] == whole["test"]


def test_the_followed_weights_of_the_published_figure_are_pytorchs():
    """PyTorch's (out, in, row, column) = (3, 4, 1, 0) and (3, 8, 1, 0) in Keras' order."""
    from bnzoo import models

    section = config.load_config(config.starter_configs()["three_conv_devanagari"]).train
    kernel = models.build("three_conv").get_layer("conv_3").kernel.numpy()
    as_pytorch = kernel.transpose(3, 2, 0, 1)
    for item, index in zip(section.follow_weights, [(3, 4, 1, 0), (3, 8, 1, 0)], strict=True):
        assert (item.layer, item.weight) == ("conv_3", "kernel")
        assert kernel[item.index] == as_pytorch[index]


def test_the_initial_weights_are_those_of_the_seed_whatever_loading_has_drawn(tmp_path):
    tree = {"data": {"name": "digits", "view": "flat"}, "model": {"name": "dense"}}
    checked = config.validate(tree, source="test")
    kernels = []
    for draws in (0, 5):
        with run_settings(checked):
            splits = load_data(checked)
            for _ in range(draws):  # as preparing a data set of TFDS does
                random.random()
            kernels.append(build_for(checked, splits).get_layer("dense_1").kernel.numpy())
    assert np.array_equal(*kernels)
