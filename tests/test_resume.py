"""Runs that are broken off and go on end as undisturbed ones, bit for bit."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from test_readme import REPOSITORY
from test_studies_long import without_times
from watching import StopIn

from bnzoo import config, files, load_model, runs
from bnzoo.training import start_afresh, train

TREE = {
    "seed": 3,
    "data": {"name": "digits", "validation": 0.2, "batch_size": 256, "augment": "flip_crop"},
    "model": {"name": "vgg", "filters": [[4]], "units": [8], "dropout": 0.4},
    "train": {
        "epochs": 3,
        "deterministic": True,
        "optimizer": {"name": "adam"},
        "schedule": "cosine",
        "tensorboard": False,
        "jit_compile": False,
    },
}
NOISY = """
import keras

class Noise(keras.layers.Layer):
    def call(self, x, training=False):
        return x + keras.random.normal(keras.ops.shape(x), stddev=0.1) if training else x

def build(input_shape):
    inputs = keras.Input(input_shape)
    x = Noise()(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(10)(x))
"""


def make_config(**train_section):
    return config.validate({**TREE, "train": {**TREE["train"], **train_section}}, source="test")


def run(checked, out, stop_in=None, **arguments):
    """Train as a new process would; broken off in an epoch, or to the end."""
    start_afresh()
    if stop_in is None:
        return train(checked, out, **arguments)
    with pytest.raises(KeyboardInterrupt):
        train(checked, out, callbacks=[StopIn(stop_in)], **arguments)
    return None


def rows(folder):
    history = runs.RunFolder(folder).history()
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def assert_same(folder, other):
    assert rows(folder) == rows(other)
    summaries = [without_times(runs.RunFolder(one).summary()) for one in (folder, other)]
    assert summaries[0] == summaries[1]  # its findings, too
    models = [load_model(one) for one in (folder, other)]
    for one, same in zip(
        *([*model.weights, *model.optimizer.variables] for model in models), strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), same.numpy(), err_msg=one.path)


@pytest.mark.parametrize(
    "section",
    [{}, {"recalibrate": 256, "steps_per_epoch": 3, "schedule": "constant"}],
    ids=["dropout, augmented", "recalibrated, few steps"],
)
def test_a_run_that_is_broken_off_and_goes_on_ends_bit_for_bit_as_an_undisturbed_one(
    tmp_path, section
):
    checked = make_config(**section)
    run(checked, tmp_path / "whole")
    run(checked, tmp_path / "stopped", stop_in=3)
    run(checked, tmp_path / "stopped", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_random_numbers_of_a_layer_without_a_seed_go_on_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noisy.py").write_text(NOISY)
    tree = {**TREE, "model": {"name": "noisy.py:build"}}
    checked = config.validate(tree, source="test")
    run(checked, "whole")
    run(checked, "stopped", stop_in=3)
    run(checked, "stopped", resume=True)
    assert rows("whole") == rows("stopped")


class _StopAfter(keras.callbacks.Callback):
    """Interrupt when the last epoch is complete."""

    def on_train_end(self, logs=None):
        raise KeyboardInterrupt


def test_a_run_broken_off_after_its_last_epoch_only_ends(tmp_path):
    checked = make_config(recalibrate=256)
    run(checked, tmp_path / "whole")
    start_afresh()
    with pytest.raises(KeyboardInterrupt):
        train(checked, tmp_path / "stopped", callbacks=[_StopAfter()])
    begun = []
    look = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))
    run(checked, tmp_path / "stopped", resume=True, callbacks=[look])
    assert not begun
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_two_checkpoints_are_kept_and_what_a_kill_left_of_one_goes(tmp_path):
    checked, folder = make_config(), runs.RunFolder(tmp_path)
    run(checked, tmp_path, stop_in=2)
    partial = folder.checkpoints / ".epoch-00002.1-2.partial.keras"
    partial.write_text("cut off")
    (tmp_path / ".history.1-2.partial.csv").write_text("cut off")
    run(checked, tmp_path, stop_in=3, resume=True)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [
        "epoch-00001.keras",
        "epoch-00002.keras",
        "first_loss.json",
    ]
    assert not list(tmp_path.glob(".history*"))


def test_the_name_of_a_checkpoint_stands_for_what_is_on_the_disk(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(files.os, "fsync", lambda number: order.append("on the disk"))
    replace = files.os.replace
    monkeypatch.setattr(
        files.os, "replace", lambda *paths: (order.append("named"), replace(*paths))
    )
    files.write_atomically(tmp_path / "summary.json", "{}")
    assert order == ["on the disk", "named"]


def test_a_process_killed_before_it_wrote_anything_is_resumed_from_the_beginning(tmp_path):
    """Its lock is there, and nothing else."""
    (tmp_path / ".lock").touch()
    checked = make_config(epochs=1)
    assert run(checked, tmp_path, resume=True)["status"] == "completed"


@pytest.mark.slow
def test_runs_studies_and_sweeps_that_are_killed_resume_exactly(tmp_path):
    kinds = ["train", "compare, watching", "tune, random"]
    out = tmp_path / "kills.json"
    command = [sys.executable, "scripts/kill_runs.py", "--kills", "6", "--out", str(out)]
    subprocess.run([*command, "--kinds", *kinds], cwd=REPOSITORY, check=True)
    found = json.loads(out.read_text())["kinds"]
    assert {name: (one["kills"], one["exact"]) for name, one in found.items()} == dict.fromkeys(
        kinds, (2, 2)
    )
