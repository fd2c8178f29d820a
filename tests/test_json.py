"""`--json`: stdout is exactly one JSON object; all that people read goes to stderr."""

import json

import pytest

from bnzoo.runs import RunFolder, StudyFolder, SweepFolder

CONFIG = """
data: {name: digits, batch_size: 256}
model: {name: dense, units: [8]}
train: {epochs: 1, optimizer: {name: adam, learning_rate: 0.01}, tensorboard: false}
compare: {variants: {none: {model.placement: none}}, seeds: [0]}
tune:
  algorithm: grid
  objective: {name: val_accuracy, direction: max}
  space: {model.placement: [none, before]}
"""


@pytest.fixture
def result(call, tmp_path, monkeypatch):
    """Run a command with --json and return its object, its exit code and what it told people."""
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)

    def result(*arguments):
        code, printed, told = call(*arguments, "--json")
        return (json.loads(printed) if printed else None), code, told

    return result


def test_commands_that_end_with_numbers_print_one_object(result, tmp_path, in_this_process):
    found, code, told = result("train", "small.yaml", "--out", "run")
    assert code == 0
    assert found == {"folder": "run", **RunFolder("run").summary()}
    assert "epoch 1/1" in told
    assert "test accuracy" in told

    exported, _, told = result("export", "run", "--out", "served/small")
    assert exported["folder"] == "served/small/1"
    assert exported["parity"]["largest_relative_difference"] < 1e-4
    assert "Exported to served/small/1" in told

    evaluated, _, told = result("evaluate", "served/small")
    assert evaluated["accuracy"] == pytest.approx(found["test"]["accuracy"])
    assert len(evaluated["classes"]) == 10
    assert "Evaluated" in told

    listed, _, _ = result("runs", ".")
    assert [one["folder"] for one in listed["folders"]] == ["run"]
    assert listed["folders"][0]["value"] == found["test"]["accuracy"]


def test_studies_and_sweeps_print_their_summary(result):
    found, code, told = result("compare", "small.yaml", "--out", "study")
    assert code == 0, told
    assert found == {"folder": "study", **StudyFolder("study").summary()}
    found, code, told = result("tune", "small.yaml", "--out", "sweep")
    assert code == 0, told
    assert found == {"folder": "sweep", **SweepFolder("sweep").summary()}


def test_predictions_are_an_object(result, tmp_path):
    import serving_exports as exports
    from PIL import Image

    folder = exports.export_classifier(tmp_path / "served" / "one")
    Image.new("L", (9, 12)).save("one.png")
    found, code, _ = result("predict", folder, "one.png", "--top", "2")
    assert code == 0
    ((image, classes),) = ((one["image"], one["classes"]) for one in found["predictions"])
    assert image == "one.png"
    assert [set(one) for one in classes] == [{"name", "probability"}] * 2


def test_what_diverged_is_told_and_has_failed(result):
    wild = ("--set", "train.optimizer={name: sgd, learning_rate: 1e30}")
    found, code, told = result("train", "small.yaml", "--out", "wild", *wild)
    assert code == 1
    assert found["status"] == "diverged"
    assert "Diverged: " in told


def test_an_error_leaves_stdout_empty(result):
    found, code, told = result("train", "small.yaml", "--set", "train.epochs=0")
    assert (found, code) == (None, 2)
    assert "train.epochs" in told
