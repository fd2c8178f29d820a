"""`bnzoo recalibrate`: the statistics of a run's own data, or of others, in a new file."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from normalized_models import norms
from own_functions import write

import bnzoo
import bnzoo.data
from bnzoo.config import load_config
from bnzoo.training import train

RUN = Path(__file__).parent / "golden" / "run_before"


def first_norm(shape, name="model.keras", **arguments):
    """Save a model that normalizes its input first."""
    layer = bnzoo.BatchNormalization(**arguments)
    stack = [keras.Input(shape), layer, keras.layers.Flatten(), keras.layers.Dense(10)]
    model = keras.Sequential(stack)
    model.save(name)
    return model


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def all_training_inputs(name="digits", **settings):
    splits = bnzoo.data.load(name, **({"validation": "none"} | settings))
    return np.concatenate([x for x, _ in splits.train.as_numpy_iterator()])


def check_statistics(path, inputs):
    """Compare the moving statistics of the first layer with those of its inputs in float64."""
    layer = norms(bnzoo.load_model(path))[0]
    axes = tuple(range(inputs.ndim - 1))
    inputs = inputs.astype("float64")
    np.testing.assert_allclose(layer.moving_mean, inputs.mean(axes), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, inputs.var(axes), rtol=1e-5, atol=1e-6)


def test_a_file_gets_the_statistics_of_a_named_training_split(call):
    first_norm((8, 8, 1))
    code, out, err = call("recalibrate", "model.keras", "digits", "--out", "new/mended.keras")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Recalibrated 1 layer of batch normalization: new/mended.keras",
        "  data  digits, training split: 1,438 examples",
    ]
    check_statistics("new/mended.keras", all_training_inputs())


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((12, 10, 3), {"image_size": (12, 10), "color_mode": "rgb"}),
        ((None, None, 3), {"color_mode": "rgb"}),
        ((8, 8), {"view": "rows"}),
        ((64,), {"view": "flat"}),
    ],
)
def test_named_data_take_the_form_of_the_models_input(call, shape, settings):
    layers = [keras.Input(shape), keras.layers.BatchNormalization()]
    keras.Sequential(layers).save("model.keras")
    code, _, err = call("recalibrate", "model.keras", "digits", "--out", "mended.keras")
    assert (code, err) == (0, "")
    check_statistics("mended.keras", all_training_inputs(**settings))


def test_the_data_of_a_config_are_taken_as_they_are_but_not_augmented(call):
    first_norm((9, 9, 1))
    Path("mine.yaml").write_text(
        "data: {name: digits, image_size: [9, 9], augment: flip_crop, validation: 0.5}\n"
        "model: {name: dense}"
    )
    code, out, _ = call("recalibrate", "model.keras", "mine.yaml", "--out", "mended.keras")
    assert code == 0
    assert "719 examples" in out
    settings = {"image_size": (9, 9), "validation": 0.5}
    check_statistics("mended.keras", all_training_inputs(**settings))


def test_a_run_is_recalibrated_on_its_own_training_split(call):
    code, out, err = call("recalibrate", RUN, "--out", "mended.keras", "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "file": "mended.keras",
        "recalibrated": 3,
        "left": 0,
        "data": "digits, training split",
        "examples": 1294,
    }
    mended, splits = bnzoo.load_model(RUN), bnzoo.data.load("digits", seed=0, batch_size=32)
    assert mended.compiled
    bnzoo.recalibrate(mended, splits.train)
    pairs = zip(norms(mended), norms(bnzoo.load_model("mended.keras")), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one.moving_mean, other.moving_mean, rtol=1e-4, atol=1e-5)


def test_few_examples_are_the_same_in_every_pass(call):
    """Each epoch has an order of its own: passes over parts of several would never settle."""
    first_norm((8, 8, 1))
    options = ("--num-samples", 100, "--batch-size", 50, "--layer-by-layer")
    code, out, _ = call("recalibrate", "model.keras", "digits", "--out", "mended.keras", *options)
    assert code == 0
    assert "100 examples" in out
    splits = bnzoo.data.load("digits", validation="none", batch_size=50)
    splits.begin_epoch(0)
    batches = splits.train.as_numpy_iterator()
    check_statistics("mended.keras", np.concatenate([next(batches)[0] for _ in range(2)]))


def test_frozen_layers_stay_and_are_counted(call):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), *(bnzoo.BatchNormalization() for _ in range(3))]
    )
    model.layers[1].trainable = False
    model.save("model.keras")
    code, out, _ = call("recalibrate", "model.keras", "digits", "--out", "mended.keras")
    assert code == 0
    assert out.startswith("Recalibrated 2 layers")
    assert "left as they are, frozen: 1" in out


def test_data_of_ones_own_are_run_only_when_they_are_named(call, here):
    write(here)
    Path("mine.yaml").write_text(
        "data: {name: 'my_data.py:integers'}\nmodel: {name: 'my_models.py:build'}\n"
        "train: {epochs: 1, tensorboard: false}"
    )
    train(load_config("mine.yaml"), "run")
    code, _, err = call("recalibrate", "run", "--out", "mended.keras")
    assert code == 2
    assert "my_data.py:integers: expected consent to run this function" in err
    code, out, err = call("recalibrate", "run", "my_data.py:integers", "--out", "mended.keras")
    assert (code, err) == (0, "")
    assert "my_data.py:integers, training split" in out


BAD = {
    "no data": (("model.keras",), "expected the name of a data set, as a .keras file knows none"),
    "unknown data": (("model.keras", "digitz"), "Did you mean 'digits'"),
    "no folder": (("model.keras", "folder:nothing"), "nothing"),
    "missing data": (("model.keras", "tfds:cmaterdb"), "cmaterdb"),
    "no config": (("model.keras", "mine.yaml"), "mine.yaml: no such file"),
    "a bad config": (("model.keras", "bad.yaml"), "bad.yaml: data.batch_sise: unknown key"),
    "other data than the model's": (("model.keras", "other.yaml"), "examples of shape (4, 4, 1)"),
    "a failing function": (("model.keras", "mine.py:load"), "mine.py, line 2: ZeroDivisionError"),
    "no model": (("bad.yaml", "digits"), "bad.yaml: expected a whole model"),
    "no file": (("nothing.keras", "digits"), "nothing.keras: no such file"),
    "no batch normalization": (("plain.keras", "digits"), "There is nothing to recalibrate"),
    "all frozen": (("frozen.keras", "digits"), "expected batch normalization that is not frozen"),
    "a batch that is too large": (("model.keras", "digits", "--batch-size", 5000), "batch_size"),
    "its input": (("model.keras", "digits", "--out", "model.keras"), "exists already"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(call, monkeypatch, name):
    monkeypatch.setenv("BNZOO_DATA_DIR", "nowhere")
    monkeypatch.setenv("BNZOO_CACHE_DIR", "nowhere")
    first_norm((4, 4, 1))
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()]).save("plain.keras")
    first_norm((8, 8, 1), "frozen.keras", trainable=False)
    Path("bad.yaml").write_text("data: {name: digits, batch_sise: 4}\nmodel: {name: dense}")
    Path("other.yaml").write_text("data: {name: digits}\nmodel: {name: dense}")
    Path("mine.py").write_text("def load():\n    return 1 / 0\n")
    before = sorted(os.listdir())
    arguments, message = BAD[name]
    out = () if "--out" in arguments else ("--out", "new.keras")
    code, printed, err = call("recalibrate", *arguments, *out)
    assert (code, printed) == (2, "")
    assert message in err
    assert err.startswith("bnzoo recalibrate: ")
    assert len(err.splitlines()) == 1
    assert sorted(os.listdir()) == before


def test_a_number_of_examples_must_be_one(call):
    first_norm((8, 8, 1))
    code, _, err = call("recalibrate", "model.keras", "digits", "--out", "a.keras",
                        "--num-samples", 0)  # fmt: skip
    assert code == 2
    assert "--num-samples" in err
