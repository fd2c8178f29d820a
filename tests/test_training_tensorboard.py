"""What TensorBoard reads of runs, studies and sweeps; looking does not change the training."""

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import bnzoo
from bnzoo.config import validate
from bnzoo.layers.finding import batch_norm_layers
from bnzoo.runs import RunFolder, StudyFolder
from bnzoo.studies import compare
from bnzoo.training import train
from bnzoo.training.tensorboard import WatchBatchNorm
from bnzoo.tuning.sweep import tune

CONFIG = {
    "data": {"name": "digits", "batch_size": 256},
    "model": {"name": "dense", "units": [8]},
    "train": {"epochs": 2, "deterministic": True, "tensorboard": True},
}


def with_train(**values):
    return validate(CONFIG | {"train": CONFIG["train"] | values}, "test")


def events(folder):
    return EventAccumulator(str(folder), size_guidance={"histograms": 0}).Reload()


def told_by(folder):
    """The hyperparameters that a run's event file tells, by name."""
    content = events(folder).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    found = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    kinds = ("number_value", "string_value", "bool_value")
    return {
        key: next(getattr(value, kind) for kind in kinds if value.HasField(kind))
        for key, value in found.items()
    }


def test_a_run_tells_its_config_as_hyperparameters(tmp_path):
    train(with_train(), tmp_path)
    found = told_by(RunFolder(tmp_path).tensorboard)
    assert found["data.batch_size"] == 256
    assert found["model.placement"] == "before"
    assert found["train.optimizer.learning_rate"] == pytest.approx(0.001)
    assert found["train.deterministic"] is True
    assert "compare" not in found


def test_watching_writes_histograms_and_leaves_the_training_as_it_was(tmp_path):
    train(with_train(), tmp_path / "plain")
    train(with_train(watch_batch_norm=True), tmp_path / "watched")
    plain, watched = (RunFolder(tmp_path / name) for name in ("plain", "watched"))
    drop = ("seconds",)
    for row, other in zip(plain.history(), watched.history(), strict=True):
        assert {k: v for k, v in row.items() if k not in drop} == {
            k: v for k, v in other.items() if k not in drop
        }
    first, second = (bnzoo.load_model(folder.path) for folder in (plain, watched))
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

    written = events(watched.tensorboard / "batch_norm")
    (layer,) = batch_norm_layers(second)
    names = ("moving_mean", "moving_variance", "gamma", "beta", "batch_mean", "batch_variance")
    assert set(written.Tags()["tensors"]) == {f"{layer.path}/{name}" for name in names}
    assert [one.step for one in written.Tensors(f"{layer.path}/gamma")] == [0, 1]
    edges = np.frombuffer(
        written.Tensors(f"{layer.path}/moving_mean")[-1].tensor_proto.tensor_content, np.float64
    ).reshape(-1, 3)
    moving = keras.ops.convert_to_numpy(layer.moving_mean)
    assert edges[:, 2].sum() == 8
    assert edges[0, 0] == pytest.approx(moving.min(), abs=1e-6)
    assert edges[-1, 1] == pytest.approx(moving.max(), abs=1e-6)


def test_statistics_are_those_of_the_layer_in_training_mode_nested_masked_and_with_dropout():
    """In float64; dropout's random state and the moving statistics are put back."""
    inputs = keras.Input((6, 3))
    x = bnzoo.BatchNormalization(name="masked")(keras.layers.Masking()(inputs))
    block_in = keras.Input((6, 3))
    block = keras.Model(block_in, keras.layers.BatchNormalization(name="inner")(block_in))
    y = block(keras.layers.Dropout(0.5, seed=1)(inputs))
    x = keras.layers.GlobalAveragePooling1D()(x) + keras.layers.Flatten()(y)[:, :3]
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    random = np.random.default_rng(0)
    batch = random.normal(2, 3, (32, 6, 3)).astype("float32")
    batch[:, 4:] = 0
    before = [keras.ops.convert_to_numpy(one) for one in model.non_trainable_variables]
    watch = WatchBatchNorm("unused", [(batch, None)])
    watch.set_model(model)
    watch._inputs, watch._layers = batch, list(batch_norm_layers(model))
    assert {layer.name for layer in watch._layers} == {"masked", "inner"}
    found = watch._inputs_of_layers()
    for one, other in zip(before, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(one, keras.ops.convert_to_numpy(other))
    from bnzoo.training.tensorboard import _statistics

    layer = next(one for one in watch._layers if one.name == "masked")
    told = dict(_statistics(layer, *found[layer.path]))
    kept = batch[:, :4].reshape(-1, 3).astype("float64")
    np.testing.assert_allclose(told["batch_mean"], kept.mean(0), rtol=1e-12)
    np.testing.assert_allclose(told["batch_variance"], kept.var(0), rtol=1e-12)
    assert "call" not in vars(layer)


def columns(folder):
    """The hyperparameters and metrics that an experiment's event file names."""
    metadata = events(folder).summary_metadata["_hparams_/experiment"]
    found = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content).experiment
    return (
        {info.name for info in found.hparam_infos},
        {(info.name.group, info.name.tag) for info in found.metric_infos},
    )


def test_a_study_and_a_sweep_name_what_they_vary(tmp_path):
    """The columns of HParams: keys of the runs, and metrics that lie in their event files."""
    short = CONFIG | {"train": CONFIG["train"] | {"epochs": 1}}
    variants = {"variants": {"before": {"train.optimizer": "adam"}}, "seeds": [0]}
    compare(validate(short | {"compare": variants}, "test"), tmp_path / "study")
    space = {"space": {"model.placement": ["none", "before"]}, "algorithm": "grid"}
    space["objective"] = {"name": "val_accuracy", "direction": "max"}
    tune(validate(short | {"tune": space}, "test"), tmp_path / "sweep")
    keys, metrics = columns(tmp_path / "study" / "tensorboard")
    assert {"seed", "train.optimizer.name", "train.optimizer.learning_rate"} <= keys
    assert not [key for key in keys if not key.startswith(("seed", "train.optimizer."))]
    assert columns(tmp_path / "sweep" / "tensorboard") == ({"seed", "model.placement"}, metrics)
    run = StudyFolder(tmp_path / "study").run("baseline", 0)
    assert keys <= set(told_by(run.tensorboard))
    for group, tag in metrics:
        assert tag in events(run.tensorboard / group).Tags()["tensors"]
