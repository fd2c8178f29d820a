"""`bnzoo diagnose`: the answer in the terminal, as JSON and as a page, for files and runs."""

import json
import os
import shutil
from pathlib import Path

import keras
import pytest
from own_functions import write

import bnzoo
from bnzoo.config import load_config
from bnzoo.training import train

RUN = Path(__file__).parent / "golden" / "run_before"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def off(mean, name="model.keras", shape=(8, 8, 1)):
    """Save a compiled model whose moving mean is off by so much."""
    stack = [
        keras.Input(shape),
        bnzoo.BatchNormalization(momentum=0.9),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
    model = keras.Sequential(stack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    model.layers[0].moving_mean.assign([mean])
    model.save(name)


def kinds(record, level="problem"):
    return {one["kind"] for one in record["findings"] if one["level"] == level}


def test_the_worst_comes_with_the_command_that_repairs_it(call):
    off(5.0)
    code, out, err = call("diagnose", "model.keras", "--data", "digits", "--batch-size", 16)
    assert (code, err) == (0, "")
    assert "1,438 examples of digits, training split, values 0 to 1" in " ".join(out.split())
    repair = "bnzoo recalibrate model.keras digits --batch-size 16 --out recalibrated.keras"
    assert f"  {repair}\n" in out
    assert call(*repair.split()[1:])[0] == 0
    code, out, _ = call("diagnose", "recalibrated.keras", "--data", "digits", "--json")
    assert (code, kinds(json.loads(out))) == (0, set())


def test_json_is_the_record_and_all_else_goes_to_stderr(call):
    off(5.0)
    code, out, err = call("diagnose", "model.keras", "--data", "digits", "--json",
                          "--num-samples", 100)  # fmt: skip
    assert code == 0
    record = json.loads(out)
    assert (record["source"], record["data"]) == ("model.keras", "digits, training split")
    assert (record["examples"], record["batch_size"]) == (128, 32)
    assert "far_statistics" in kinds(record)
    assert record["findings"][0]["command"].startswith("bnzoo recalibrate model.keras digits ")
    assert "Moving statistics far from" in err


def test_the_page_is_written_where_it_is_said(call):
    off(5.0)
    code, out, _ = call("diagnose", "model.keras", "--data", "digits", "--html", "pages/one.html")
    assert code == 0
    assert "  page  pages/one.html" in out
    page = Path("pages/one.html").read_text()
    assert page.count("<svg") == 1  # the picture; of one layer there is no depth to draw
    assert "Training mode against inference" in page
    assert "1,438 examples, batches of 32, values 0 to 1</dd>" in page


def test_a_run_is_diagnosed_on_its_own_training_split(call):
    code, out, err = call("diagnose", RUN)
    assert (code, err) == (0, "")
    assert "three_conv: 3 layers of batch normalization, 1,294 examples of digits, training" in out
    assert f"bnzoo recalibrate {RUN} --out" in out


def test_without_data_the_weights_are_looked_at(call):
    off(0.0)
    code, out, _ = call("diagnose", "model.keras")
    assert code == 0
    assert "1 layer of batch normalization, no data" in out
    assert "With data (--data) there is more to see" in out


def test_data_of_a_run_that_are_gone_or_code_are_a_line(call, here):
    write(here)
    Path("mine.yaml").write_text(
        "data: {name: 'my_data.py:integers'}\nmodel: {name: 'my_models.py:build'}\n"
        "train: {epochs: 1, tensorboard: false}"
    )
    train(load_config("mine.yaml"), "run")
    code, out, err = call("diagnose", "run")
    assert (code, err) == (0, "")
    assert "Only the weights are looked at. my_data.py:integers: expected consent to run" in out
    code, out, _ = call("diagnose", "run", "--data", "my_data.py:integers")
    assert code == 0
    assert "of my_data.py:integers, training split" in out

    shutil.copytree(RUN, "gone")
    config = Path("gone/config.yaml")
    config.write_text(config.read_text().replace("name: digits", "name: folder:gone/images"))
    code, out, _ = call("diagnose", "gone")
    assert code == 0
    assert "Only the weights are looked at. " in out
    assert "gone/images" in out


def test_a_model_without_batch_normalization_is_no_error(call):
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()]).save("plain.keras")
    for options in ((), ("--data", "digits"), ("--html", "page.html")):
        code, out, err = call("diagnose", "plain.keras", *options)
        assert (code, err) == (0, "")
        assert ": There is no batch normalization in this model." in out
    assert "<dt>Data</dt>" not in Path("page.html").read_text()


BAD = {
    "no model": (("bad.yaml",), "bad.yaml: expected a whole model"),
    "no file": (("nothing.keras",), "nothing.keras: no such file"),
    "an unfinished run": (("empty",), "empty: expected a run folder"),
    "unknown data": (("model.keras", "--data", "digitz"), "Did you mean 'digits'"),
    "a file without its kind": (("model.keras", "--data", "mine.npz"), "Write npz:mine.npz."),
    "a folder without its kind": (("model.keras", "--data", "my/images"), "Write folder:my/images"),
    "no function": (
        ("model.keras", "--data", "mine.py:lod"),
        "mine.py:lod: expected lod in mine.py, found none. Did you mean 'load'?",
    ),
    "missing data": (("model.keras", "--data", "folder:nothing"), "nothing"),
    "another shape": (("model.keras", "--data", "other.yaml"), "got (9, 9, 1)"),
    "a failing function": (("model.keras", "--data", "mine.py:load"), "mine.py, line 2: ZeroDiv"),
    "other labels": (
        ("model.keras", "--data", "mine.py:texts"),
        "Cast string to float is not supported. Give",
    ),
    "another page": (("model.keras", "--html", "mine.py"), "ends in .html, got mine.py"),
    "a page that is none": (("model.keras", "--html", "a.html"), "a.html: expected a new file"),
    "no layers": (("model.keras", "--custom-objects", "no.py"), "no.py: expected a Python file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_nothing_is_lost(call, name):
    off(0.0)
    Path("empty").mkdir()
    Path("a.html").write_text("mine")
    Path("bad.yaml").write_text("data: {name: digits, batch_sise: 4}\nmodel: {name: dense}")
    Path("other.yaml").write_text("data: {name: digits, image_size: [9, 9]}\nmodel: {name: dense}")
    Path("mine.py").write_text(
        "def load():\n    return 1 / 0\n\n"
        "def texts():\n    import numpy as np\n"
        "    return np.zeros((40, 8, 8, 1), 'float32'), np.array(['a', 'b'] * 20)\n"
    )
    before = sorted(os.listdir())
    arguments, message = BAD[name]
    code, printed, err = call("diagnose", *arguments)
    assert (code, printed) == (2, "")
    assert message in err
    assert err.startswith("bnzoo diagnose: ")
    assert len(err.splitlines()) == 1
    assert sorted(set(os.listdir()) - {"__pycache__"}) == before
    assert Path("a.html").read_text() == "mine"


def test_what_fails_leaves_no_empty_folder_of_the_page(call):
    assert call("diagnose", "nothing.keras", "--html", "pages/new/one.html")[0] == 2
    assert not Path("pages").exists()
