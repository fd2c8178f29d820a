"""Gradients and channels before the first step, against NumPy."""

import math

import keras
import numpy as np
import pytest
import scipy.stats
from watching import loss_and_gradient, prepared, watch

from bnzoo.errors import InputError
from bnzoo.runs import StudyFolder
from bnzoo.studies import study as study_module

GRADIENTS = {"name": "gradients", "layer": "conv_2"}
SMALL = ("model", {"name": "resnet", "depth": 8, "width": 0.25, "placement": "before"})


@pytest.fixture(scope="module")
def looked():
    study, model, splits, train = prepared(GRADIENTS, SMALL)
    study.check(model, splits, train)
    before = [weight.copy() for weight in model.get_weights()]
    (row,) = study.begin(model, splits).measure(0)
    assert all(map(np.array_equal, before, model.get_weights()))
    splits.begin_epoch(0)
    return study, model, row, next(splits.train.as_numpy_iterator())


def test_gradients_are_those_of_the_loss(looked):
    _, model, row, batch = looked
    weights = [one.numpy() for one in model.trainable_variables]
    names = [one.path for one in model.trainable_variables]
    found = loss_and_gradient(model, weights, batch)[1][names.index("conv_2/kernel")].ravel()
    assert row["std"] == pytest.approx(found.std(), rel=1e-3)  # float32 in two orders
    assert row["kurtosis"] == pytest.approx(scipy.stats.kurtosis(found), rel=1e-2)
    assert row["largest"] == pytest.approx(np.abs(found).max(), rel=1e-3)
    counts = {name: value for name, value in row.items() if name.startswith("count_")}
    assert sum(counts.values()) == (found != 0).sum()
    largest = max(int(name.removeprefix("count_")) for name, value in counts.items() if value)
    assert 10 ** (largest / 4) <= row["largest"] * 1.001 < 10 ** ((largest + 1) / 4) * 1.002


def test_channels_are_those_of_each_sum(looked):
    _, model, row, (x, _) = looked
    part = keras.Model(model.input, [model.get_layer(f"add_{k}").output for k in (1, 2, 3)])
    kept = model.get_weights()
    for number, values in enumerate(part(x, training=True), start=1):
        values = np.asarray(values, "float64").reshape(-1, values.shape[-1])
        assert row[f"mean_add_{number}"] == pytest.approx(np.abs(values.mean(0)).mean(), rel=1e-4)
        assert row[f"variance_add_{number}"] == pytest.approx(values.var(0).mean(), rel=1e-4)
    model.set_weights(kept)
    assert sum(name.startswith("variance_") for name in row) == 3


def test_numbers_are_means_over_the_batches(looked):
    study, _, row, _ = looked
    other = {name: 3 * value for name, value in row.items()}
    numbers = study.count([row, other])
    assert list(numbers) == list(study.numbers)
    assert numbers["gradient_kurtosis"] == pytest.approx(2 * row["kurtosis"])
    assert numbers["log10_gradient_std"] == pytest.approx(math.log10(2 * row["std"]))
    growth = row["variance_add_3"] / row["variance_add_1"]
    assert numbers["log10_channel_variance_growth"] == pytest.approx(math.log10(growth))


def test_depth_is_counted_in_layers_where_there_are_no_sums():
    study, model, splits, _ = prepared({"name": "gradients", "layer": "dense_1"})
    columns, _ = study.begin(model, splits)
    found = [name for name in columns if name.startswith("variance_")]
    assert found == ["variance_dense_1", "variance_dense_2", "variance_logits"]


def test_sums_count_whatever_they_are_called():
    study, _, splits, _ = prepared({"name": "gradients", "layer": "first"})
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Dense(4, name="first")(keras.layers.Flatten()(inputs))
    x = keras.layers.Add(name="sum")([x, keras.layers.Dense(4)(x)])
    x = keras.layers.Add(name="add")([x, keras.layers.Dense(4, name="add_positions")(x)])
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    columns, _ = study.begin(model, splits)
    found = [name for name in columns if name.startswith("variance_")]
    assert found == ["variance_sum", "variance_add"]


def test_a_model_without_the_layer_is_refused_before_anything_runs(tmp_path):
    study, *rest = prepared("gradients", SMALL)
    with pytest.raises(InputError, match=r"no layer conv_55 .* 'resnet'\. Did you mean 'conv_5'"):
        study.check(*rest)
    with pytest.raises(InputError, match=r"gradients, baseline: no layer conv_55 .*dense_1"):
        watch(tmp_path, "gradients")
    assert list(tmp_path.iterdir()) == []


def test_a_study_of_one_step_counts_what_diverges_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "measure_seconds", lambda config: (1.0, 1.0))
    pairs = ("train.epochs", 1), ("train.steps_per_epoch", 1)
    sgd = {"name": "sgd", "learning_rate": 1e38}
    wild = {"train.optimizer": sgd, "model.placement": "none"}
    pictures = []
    summary = watch(
        tmp_path,
        {"name": "gradients", "layer": "dense_2", "batches": 2},
        *pairs,
        ("compare.variants", {"wild": wild}),
        write_report=lambda *them: pictures.extend(them[3]),
    )
    first, wild = summary["variants"].values()
    assert wild["diverged"] == 1
    assert wild["log10_gradient_std"]["mean"] == first["log10_gradient_std"]["mean"]
    assert (StudyFolder(tmp_path).figures / "gradients.png").stat().st_size > 10_000
    assert "share of the weights" in pictures[0].svg
