"""`bnzoo replace` and `bnzoo fold`: a saved model in, a new file out, and nothing overwritten."""

import json
from pathlib import Path
from unittest.mock import ANY

import keras
import numpy as np
import pytest
from normalized_models import answers, compiled, make, norms, train

import bnzoo

Keras, Ours = keras.layers.BatchNormalization, bnzoo.BatchNormalization
RUN = Path(__file__).parent / "golden" / "run_before"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A compiled and trained model with Keras' layers, and the bytes of its file."""
    file = tmp_path_factory.mktemp("trained") / "model.keras"
    model = compiled(make("nested", Keras))
    train(model, "nested", 1)
    model.save(file)
    return model, file.read_bytes()


@pytest.fixture
def saved(trained, tmp_path, monkeypatch):
    """That model, saved as model.keras in this folder."""
    monkeypatch.chdir(tmp_path)
    model, content = trained
    Path("model.keras").write_bytes(content)
    return model


def test_replace_there_and_back_keeps_weights_and_the_optimizer(call, saved):
    code, out, err = call("replace", "model.keras", "--out", "new/ours.keras")
    assert (code, err) == (0, "")
    assert out == "Replaced 3 layers of batch normalization by bnzoo: new/ours.keras\n"
    ours = bnzoo.load_model("new/ours.keras")
    assert [type(layer) for layer in norms(ours)] == [Ours] * 3
    assert call("replace", "new/ours.keras", "--out", "back.keras", "--to", "keras")[0] == 0
    back = bnzoo.load_model("back.keras")
    assert [type(layer) for layer in norms(back)] == [Keras] * 3
    pairs = zip(
        [*back.variables, *back.optimizer.variables],
        [*saved.variables, *saved.optimizer.variables],
        strict=True,
    )
    assert all((one.numpy() == other.numpy()).all() for one, other in pairs)


def test_replace_takes_arguments_and_says_what_is_lost(call, saved):
    options = ("--virtual-batch-size", 8, "--momentum", 0.9)
    assert call("replace", "model.keras", "--out", "ours.keras", *options)[0] == 0
    layer = norms(bnzoo.load_model("ours.keras"))[0]
    assert (layer.virtual_batch_size, layer.momentum) == (8, 0.9)
    back = ("replace", "ours.keras", "--out", "back.keras", "--to", "keras")
    code, _, err = call(*back)
    assert code == 2
    assert "layer 'b': Keras' BatchNormalization cannot be told virtual_batch_size=8" in err
    assert not Path("back.keras").exists()
    assert call(*back, "--force")[0] == 0


@pytest.mark.parametrize("to", ["none", "group_norm"])
def test_replace_by_something_else_leaves_none(call, saved, to):
    options = ("--groups", 3) if to == "group_norm" else ()
    code, out, _ = call(
        "replace", "model.keras", "--out", "new.keras", "--to", to, *options, "--json"
    )
    assert (code, json.loads(out)) == (0, {"file": "new.keras", "replaced": 3, "to": to})
    assert norms(bnzoo.load_model("new.keras")) == []


def test_fold_answers_the_same_without(call, saved):
    code, out, err = call("fold", "model.keras", "--out", "folded.keras")
    assert (code, err) == (0, "")
    assert out.startswith("Folded 3 layers of batch normalization: folded.keras\n")
    folded = bnzoo.load_model("folded.keras")
    assert norms(folded) == []
    np.testing.assert_allclose(answers(folded, ""), answers(saved, ""), atol=1e-5)


def test_fold_says_what_it_leaves_inside_other_layers_and_why(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((2, 2), name="x")
    x = keras.layers.TimeDistributed(Keras(name="a"), name="time")(Keras(name="b")(inputs))
    keras.Model(inputs, x, name="m").save("model.keras")
    reasons = {
        "b": "becomes a MultiplyAdd: 'b' is fed by an input of model 'm', and it cannot go past "
        "'time' (TimeDistributed)",
        "time/a": "stays as it is: it is inside 'time' (TimeDistributed)",
    }
    code, out, _ = call("fold", "model.keras", "--out", "folded.keras")
    assert code == 0
    assert out.splitlines() == [
        "Folded 1 layer of batch normalization: folded.keras",
        *(f"  {path}: {text}" for path, text in reasons.items()),
    ]
    code, out, _ = call("fold", "model.keras", "--out", "again.keras", "--json")
    expected = {"file": "again.keras", "folded": 1, "left": 1, "not_merged": reasons}
    assert (code, json.loads(out)) == (0, expected)


def test_a_run_folder_will_do(call, tmp_path):
    for command in (("replace", RUN, "--to", "keras"), ("fold", RUN)):
        out = tmp_path / f"{command[0]}.keras"
        assert call(*command, "--out", out)[0] == 0
        model = bnzoo.load_model(out)
        assert set(map(type, norms(model))) == ({Keras} if command[0] == "replace" else set())
        golden = np.load(RUN / "outputs.npz")
        difference = np.abs(model(golden["inputs"]) - golden["outputs"]).max()
        assert difference < 1e-4 * np.abs(golden["outputs"]).max()


def test_mixed_precision_keeps_its_loss_scaling_and_its_optimizer(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(make("nested", Keras))
    finally:
        keras.config.set_dtype_policy("float32")
    train(model, "nested", 1)
    model.save("model.keras")
    assert call("replace", "model.keras", "--out", "new.keras") == (0, ANY, "")
    new = bnzoo.load_model("new.keras")
    assert isinstance(new.optimizer, keras.optimizers.LossScaleOptimizer)
    for one, other in zip(new.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert keras.config.dtype_policy().name == "float32"


LAYERS = """
import keras

class Halve(keras.layers.Layer):
    def call(self, inputs):
        return inputs / 2
"""


@pytest.mark.parametrize("command", ["replace", "fold"])
def test_layers_of_ones_own_need_their_file(call, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(LAYERS)
    names = {}
    exec(LAYERS, names)
    stack = [keras.Input((4,)), names["Halve"](), Keras(), keras.layers.Dense(2)]
    keras.Sequential(stack).save("model.keras")
    code, _, err = call(command, "model.keras", "--out", "new.keras")
    assert code == 2
    assert "got one with the class 'Halve'. Name the file that defines it: --custom-obj" in err
    options = ("--custom-objects", "mine.py")
    assert call(command, "model.keras", "--out", "new.keras", *options)[0] == 0
    assert Path("new.keras").exists()


BAD = {
    "its input": (("model.keras", "--out", "model.keras"), "exists already, and is not overwr"),
    "an existing file": (("model.keras", "--out", "other.keras"), "other.keras: exists already"),
    "no .keras file": (("model.keras", "--out", "model"), "ends in .keras, got model"),
    "a file on the way": (("model.keras", "--out", "other.keras/x.keras"), "other.keras"),
    "no source": (("nothing.keras", "--out", "new.keras"), "nothing.keras: no such file"),
    "no model": (("other.keras", "--out", "new.keras"), "other.keras: expected a whole model"),
    "none in it": (("plain.keras", "--out", "new.keras"), "found no"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["replace", "fold"])
def test_bad_input_is_refused_and_nothing_is_lost(call, saved, name, command):
    Path("other.keras").write_text("mine")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save("plain.keras")
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    arguments, message = BAD[name]
    code, out, err = call(command, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith(f"bnzoo {command}: ")
    assert len(err.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "kras"), "Received to='kras', expected one of"),
        (("--momentum", "2"), "Received momentum=2.0, expected a number from 0 to 1"),
        (("--groups", "4"), "Received groups=4 with to='bnzoo'"),
        (("--virtual-batch-size", "4", "--synchronized"), "expected at most one of"),
    ],
)
def test_bad_options_of_replace_are_refused(call, saved, options, message):
    code, _, err = call("replace", "model.keras", "--out", "new.keras", *options)
    assert code == 2
    assert message in err
    assert not Path("new.keras").exists()
