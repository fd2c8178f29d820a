"""`bnzoo.compare` and `bnzoo.tune`: functions and data of this process, in the usual folders."""

import keras
import numpy as np
import pytest

import bnzoo
from bnzoo.errors import InputError
from bnzoo.runs import StudyFolder, SweepFolder
from bnzoo.studies import study as study_module

FAST = {"epochs": 1, "loss": "mse", "tensorboard": False, "announce": lambda line: None}
PLACEMENTS = {"none": {"placement": "none"}, "before": {"placement": "before"}}


def build(input_shape, placement, batch_norm, width=3):
    x = inputs = keras.Input(input_shape)
    x = keras.layers.Dense(width)(x)
    x = batch_norm()(x) if placement == "before" else x
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.ReLU()(x)))


def off_by(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred))


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    monkeypatch.setattr(study_module, "measure_seconds", lambda config: (1.0, 1.0))


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(0).normal(size=(80, 4))
    return x, x.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def study(data, tmp_path_factory):
    """A finished study: its folder and its summary."""
    out = tmp_path_factory.mktemp("in_python") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "measure_seconds", lambda config: (1.0, 1.0))
        return out, bnzoo.compare(
            build, data, variants=PLACEMENTS, seeds=1, out=out, metrics=[off_by], **FAST
        )


def test_a_study_in_python_has_the_folder_and_the_summary_of_the_command(study):
    out, summary = study
    folder = StudyFolder(out)
    assert folder.report_file.exists()
    assert set(summary["variants"]) == {"baseline", "before"}
    assert summary["variants"]["before"]["overrides"] == {"model.placement": "before"}
    assert summary["variants"]["before"]["test_off_by"]["n"] == 1
    kept = folder.run("before", 0).code / "__main__-build.py"
    assert kept.read_text().startswith("def build(input_shape, placement, batch_norm, width=3)")
    layers = bnzoo.load_model(folder.run("before", 0).path, compile=False).layers
    assert any(isinstance(one, bnzoo.BatchNormalization) for one in layers)


def test_the_same_call_resumes(study, data):
    out, summary = study
    before = StudyFolder(out).run("before", 0).model_file.stat().st_mtime
    again = bnzoo.compare(
        build, data, variants=PLACEMENTS, seeds=1, out=out, metrics=[off_by], **FAST
    )
    assert again["variants"] == summary["variants"]
    assert StudyFolder(out).run("before", 0).model_file.stat().st_mtime == before


def test_other_data_is_not_mixed_in(study, data):
    x, y = data
    with pytest.raises(InputError, match="the data is not what this run began with"):
        bnzoo.compare(
            build, (x, 2 * y), variants=PLACEMENTS, seeds=1, out=study[0], metrics=[off_by], **FAST
        )


def test_other_code_is_not_mixed_in(study, data):
    def other(input_shape, placement, batch_norm, width=3):
        return build(input_shape, placement, batch_norm, width)

    other.__name__, other.__qualname__ = build.__name__, build.__qualname__
    with pytest.raises(InputError, match="expected the text that the first runs had"):
        bnzoo.compare(
            other, data, variants=PLACEMENTS, seeds=1, out=study[0], metrics=[off_by], **FAST
        )


def test_a_sweep_in_python_searches_arguments_and_keys_and_resumes(data, tmp_path):
    space = {"width": [2, 5], "train.optimizer.learning_rate": [0.1]}
    told = []
    arguments = {**FAST, "space": space, "out": tmp_path / "sweep", "announce": told.append}
    summary = bnzoo.tune(build, data, **arguments)
    trials = summary["trials"]
    assert [trial["values"]["model.params.width"] for trial in trials] == [2, 5]
    assert summary["objective"] == {"name": "val_loss", "direction": "min"}
    assert SweepFolder(tmp_path / "sweep").report_file.exists()
    assert "width 2, learning_rate 0.1  val_loss" in "\n".join(told)
    assert bnzoo.tune(build, data, **arguments)["trials"] == trials


REFUSED = {
    "no variants": ({"variants": {}}, "variants: expected at least two"),
    "one variant": (
        {"variants": {"a": {}}},
        "variants: expected at least two, the baseline first, got 1",
    ),
    "no such argument": (
        {"variants": {"a": {}, "b": {"widht": 3}}},
        "model.params.widht: expected an argument of __main__:build",
    ),
    "no plain value": (
        {"variants": {"a": {}, "b": {"width": keras.layers.Dense}}},
        "variants: expected numbers, texts, lists and mappings",
    ),
    "no such key": ({"optimiser": "adam"}, "train.optimiser: unknown key 'optimiser'"),
    "no such placement": ({"validation": 2}, "data.validation: expected a fraction between 0 and"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_told_in_one_line(case, data, tmp_path):
    changes, message = REFUSED[case]
    arguments = {**FAST, "variants": PLACEMENTS, "out": tmp_path / "study", **changes}
    with pytest.raises(InputError) as error:
        bnzoo.compare(build, data, **arguments)
    assert message in str(error.value)
    assert not (tmp_path / "study").exists()


def test_they_stay_functions_whatever_is_imported():
    import bnzoo.studies
    import bnzoo.tuning.sweep

    assert callable(bnzoo.compare)
    assert callable(bnzoo.tune)
    assert {"compare", "tune"} <= set(dir(bnzoo))
