"""What an epoch is: so many batches of a fresh shuffle, after which statistics are re-estimated."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from calls import run_on_jax
from own_functions import write

from bnzoo import config, load_model, recalibrate, runs
from bnzoo.errors import InputError
from bnzoo.studies import duration
from bnzoo.training import train
from bnzoo.training.building import load_data
from bnzoo.training.callbacks import RecalibrateEpochs

TREE = {
    "seed": 7,
    "data": {"name": "digits", "validation": 0.2, "batch_size": 64, "train_size": 512},
    "model": {"name": "dense", "units": [8]},
    "train": {"epochs": 3, "steps_per_epoch": 3, "tensorboard": False},
}


def make_config(**changes):
    """Build the small config with dotted keys changed; `__` stands for a dot."""
    pairs = [(key.replace("__", "."), value) for key, value in changes.items()]
    return config.validate(config.apply_overrides(TREE, pairs), source="test")


class Stop(keras.callbacks.Callback):
    """Interrupts a run in the middle of an epoch, or as training ends."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._now == self._epoch and batch == 1:
            raise KeyboardInterrupt

    def on_train_end(self, logs=None):
        if self._epoch is None:
            raise KeyboardInterrupt


def check_resumed_as_undisturbed(checked, folder, epoch):
    whole = train(checked, folder / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(checked, folder / "stopped", callbacks=[Stop(epoch)])
    assert train(checked, folder / "stopped", resume=True)["test"] == whole["test"]
    models = [load_model(folder / name) for name in ("whole", "stopped")]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


# --- train.steps_per_epoch -----------------------------------------------------------------------


def test_an_epoch_is_so_many_batches_of_a_fresh_shuffle():
    splits = load_data(make_config())
    assert splits.steps_per_epoch == 3
    assert splits.num_train == 512
    epochs = [np.concatenate([x for x, _ in splits.train]) for _ in range(3)]
    assert {len(one) for one in epochs} == {3 * 64}
    assert len(np.unique(np.concatenate(epochs), axis=0)) > 2 * 3 * 64  # others in each epoch
    splits.begin_epoch(1)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in splits.train]), epochs[1])


def test_steps_schedules_and_displays_count_in_such_epochs(tmp_path):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.params["steps"])

    lines, schedule = [], {"name": "step", "epochs": [1, 2]}
    checked = make_config(train__schedule=schedule, train__tensorboard=True)
    summary = train(checked, tmp_path, callbacks=[Look()], announce=lines.append)
    assert (summary["epochs"], summary["steps"]) == (3, 9)
    assert summary["data"]["examples"]["training"] == 512
    rates = [row["learning_rate"] for row in runs.RunFolder(tmp_path).history()]
    assert rates == pytest.approx([1e-3, 1e-4, 1e-5])
    assert seen == [3]
    assert any("3 epochs of 3 steps" in line for line in lines)
    assert int(load_model(tmp_path, compile=True).optimizer.iterations.numpy()) == 9


def test_a_run_of_short_epochs_resumes_as_if_undisturbed(tmp_path):
    check_resumed_as_undisturbed(make_config(), tmp_path, epoch=1)


def test_the_estimate_of_the_time_counts_the_steps(monkeypatch):
    monkeypatch.setattr(duration._Clock, "step_seconds", lambda clock: 1000.0)
    assert 3000 < duration.measure_seconds(make_config())[1] < 3100


def test_more_steps_than_an_epoch_has_are_refused_before_anything_is_written(tmp_path):
    train(make_config(train__steps_per_epoch=8, train__epochs=1), tmp_path / "all")
    too_many = make_config(train__steps_per_epoch=9)
    with pytest.raises(InputError, match=r"train\.steps_per_epoch: .*at most 8, .*got 9\. Lower"):
        train(too_many, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="got 9"):
        duration.measure_seconds(too_many)


def test_a_data_set_of_tensorflow_is_cut_and_one_of_keras_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path))
    own = {"name": "my_data.py:datasets", "batch_size": 16, "validation": "none"}
    splits = load_data(make_config(data=own))
    assert splits.steps_per_epoch == 3
    assert isinstance(splits.train, tf.data.Dataset)
    own["name"] = "my_data.py:sequences"
    with pytest.raises(
        InputError, match=r"train\.steps_per_epoch: expected null .*PyDataset.*got 3"
    ):
        load_data(make_config(data=own))


@pytest.mark.parametrize("key", ["steps_per_epoch", "recalibrate"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "8", True])
def test_counts_are_positive_whole_numbers(key, value):
    with pytest.raises(InputError, match=rf"train\.{key}: expected a whole number"):
        make_config(**{f"train__{key}": value})


def test_a_run_says_which_normalization_its_model_has(tmp_path):
    lines = []
    train(make_config(model__group_norm=4, train__epochs=1), tmp_path, announce=lines.append)
    assert any("Model: dense, group normalization: before" in line for line in lines)


# --- train.recalibrate ---------------------------------------------------------------------------

FEW = {"train__recalibrate": 100, "train__epochs": 2}


def statistics(model):
    layer = model.get_layer("bn_1")
    return [layer.moving_mean.numpy(), layer.moving_variance.numpy()]


@pytest.mark.parametrize("is_best", [False, True])
def test_what_is_validated_saved_and_tested_has_statistics_of_the_data(tmp_path, is_best):
    changes = {}
    if is_best:
        changes["train__early_stopping"] = {"patience": 2}
        changes["train__optimizer"] = {"name": "sgd", "learning_rate": 3.0}
        changes["train__epochs"] = 20
    checked = make_config(**FEW | changes, model__batch_norm={"momentum": None})
    summary = train(checked, tmp_path)
    model, splits = load_model(tmp_path), load_data(checked)
    assert model.get_layer("bn_1").num_batches.numpy() == 2  # 100 examples in whole batches of 64
    assert (summary["model_epoch"] < summary["epochs"]) == is_best
    kept = statistics(model)
    found = statistics(recalibrate(model, splits.first_epoch, 100))
    np.testing.assert_allclose(kept, found, rtol=1e-6)
    row = runs.RunFolder(tmp_path).history()[summary["model_epoch"] - 1]
    losses = [model.evaluate(part, verbose=0)[0] for part in (splits.validation, splits.test)]
    assert losses == pytest.approx([row["val_loss"], summary["test"]["loss"]], rel=1e-6)


@pytest.mark.parametrize("epoch", [1, None])
def test_a_recalibrated_run_resumes_as_if_undisturbed(tmp_path, epoch):
    renorm = {"renorm": True}  # with which training itself uses the statistics
    check_resumed_as_undisturbed(make_config(model__batch_norm=renorm, **FEW), tmp_path, epoch)


def test_training_itself_stays_the_same(tmp_path):
    losses = []
    for name, changes in (("with", FEW), ("without", FEW | {"train__recalibrate": None})):
        train(make_config(**changes), tmp_path / name)
        rows = runs.RunFolder(tmp_path / name).history()
        losses.append([[row[key] for row in rows] for key in ("loss", "val_loss")])
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] != losses[1][1]


def test_a_model_without_batch_normalization_is_left_as_it_is(tmp_path):
    tested = [
        train(make_config(model__placement="none", **changes), tmp_path / str(number))["test"]
        for number, changes in enumerate((FEW, {"train__epochs": 2}))
    ]
    assert tested[0] == tested[1]


@pytest.mark.parametrize("steps", [1, 3])
def test_weights_ruined_in_training_are_a_divergence_as_without(tmp_path, steps):
    wild = {"name": "sgd", "learning_rate": 1e38}
    changes = FEW | {"train__optimizer": wild, "train__steps_per_epoch": steps}
    found = [
        train(make_config(**changes | more), tmp_path / str(number))["diverged"]
        for number, more in enumerate(({}, {"train__recalibrate": None}))
    ]
    assert found[0] == found[1] is not None


def test_the_estimate_of_the_time_counts_the_recalibration(monkeypatch):
    seen = []
    monkeypatch.setattr(duration.RecalibrateEpochs, "update", lambda self: seen.append(self.model))
    duration.measure_seconds(make_config(**FEW))
    assert len(seen) == 1


def test_other_failures_are_told():
    again = RecalibrateEpochs(load_data(make_config()), 100)
    again.set_model(keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()]))
    with pytest.raises(InputError, match="expected a batch that it takes"):
        again.update()


ON_JAX = """
import bnzoo
from bnzoo.training import train
from test_training_steps import FEW, make_config

lines = []
train(make_config(model__batch_norm={"momentum": None}, **FEW), OUT, announce=lines.append)
print(int(bnzoo.load_model(OUT).get_layer("bn_1").num_batches.numpy()))
assert not [line for line in lines if "could not be diagnosed" in line], lines
"""


def test_runs_on_jax_are_recalibrated_and_diagnosed_too(tmp_path):
    assert run_on_jax(f"OUT = {str(tmp_path)!r}\n{ON_JAX}").split() == ["2"]
