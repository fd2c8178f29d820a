"""When a run is given up: a loss far beyond that of the first batch, or one that is no number."""

import math

import pytest
from sweeps import PLACEMENT, RATE, make_config

from bnzoo import config, runs
from bnzoo.reporting import formatting
from bnzoo.training import train
from bnzoo.training.stopping import DivergenceStop


class Model:
    stop_training = False


def stop_of(losses, folder, epoch=0, steps=4):
    """Feed losses of single batches as Keras does: as means over the epoch so far."""
    folder.path.mkdir(exist_ok=True)
    callback = DivergenceStop(steps, folder)
    callback.set_model(Model())
    callback.on_epoch_begin(epoch)
    for batch in range(len(losses)):
        callback.on_train_batch_end(batch, {"loss": sum(losses[: batch + 1]) / (batch + 1)})
        if callback.model.stop_training:
            break
    return callback


@pytest.fixture
def folder(tmp_path):
    return runs.RunFolder(tmp_path)


def test_a_batch_a_thousand_times_worse_than_the_first_is_divergence(folder):
    found = stop_of([2.0, 1.0, 2001.0, 1.0], folder).diverged
    assert (found["epoch"], found["step"], found["first_loss"]) == (1, 3, 2.0)
    assert found["loss"] == pytest.approx(2001.0)


def test_a_thousand_times_is_the_limit_and_not_less(folder):
    assert stop_of([2.0, 1999.0, 1.0, 1.0], folder).diverged is None


def test_a_single_batch_counts_and_not_the_mean_of_the_epoch(folder):
    losses = [2.0] * 99 + [2500.0]
    assert sum(losses) / 100 < 30
    assert stop_of(losses, folder, steps=100).diverged["step"] == 100


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_divergence_without_a_loss_to_name(folder, loss):
    found = stop_of([2.0, loss], folder).diverged
    assert found == {"epoch": 1, "step": 2}


def test_a_resumed_run_remembers_the_first_batch_of_the_whole_run(folder):
    stop_of([2.0, 1.0], folder)
    resumed = stop_of([0.001, 100.0], folder, epoch=3)
    assert resumed.diverged is None  # 100 is not a thousand times 2
    resumed = stop_of([0.001, 2500.0], folder, epoch=3)
    assert (resumed.diverged["epoch"], resumed.diverged["step"]) == (4, 14)


def test_a_run_from_before_this_rule_is_resumed_without_it(folder):
    assert stop_of([0.001, 1e6], folder, epoch=3).diverged is None


def test_a_run_that_leaps_but_stays_finite_diverges_in_train_too(tmp_path):
    values = {RATE: 100.0, PLACEMENT: "before"}
    checked = config.trial_config(make_config(train={"epochs": 3}), values, 0)
    summary = train(checked, tmp_path)
    assert summary["status"] == "diverged"
    assert summary["test"] is None
    found = summary["diverged"]
    assert math.isfinite(found["loss"])
    assert found["loss"] > 1000 * found["first_loss"]
    assert found["first_loss"] == summary["first_batch_loss"]
    assert "over 1,000 times the" in formatting.divergence(found)
    assert not (tmp_path / "model.keras").exists()
