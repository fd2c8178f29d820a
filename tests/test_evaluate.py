"""`bnzoo evaluate` and `bnzoo runs`: true numbers by class, a page, figures; what there is."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss, recall_score
from study_folders import make_study

from bnzoo.config import load_config, validate
from bnzoo.reporting.classification import (
    MOST_MISTAKES,
    collect_answers,
    evaluation_record,
    write_evaluation,
)
from bnzoo.reporting.report import write_study_report
from bnzoo.runs import RunFolder
from bnzoo.studies.evaluation import evaluate, evaluate_run
from bnzoo.training import train

CONFIG = """
data: {name: digits, batch_size: 256}
model: {name: dense, units: [8]}
train: {epochs: 3, optimizer: {name: adam, learning_rate: 0.01}, tensorboard: false}
"""
NAMES = ["cat", "dog", "eel"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "small.yaml").write_text(CONFIG)
    train(load_config(folder / "small.yaml"), folder / "run")
    return folder


def random_answers(examples=500, shape=(4, 4, 1)):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, examples)
    logits = 2 * random.normal(size=(examples, 3)) + 2 * np.eye(3)[labels]
    inputs = random.random((examples, *shape)).astype("float32")
    inputs[:, 0, 0] = np.arange(examples).reshape(-1, *[1] * (len(shape) - 2))
    found = {float(one.flat[0]): row for one, row in zip(inputs, logits, strict=True)}
    batches = [(inputs[at : at + 64], labels[at : at + 64]) for at in range(0, examples, 64)]
    answers = collect_answers(lambda x: np.array([found[float(one.flat[0])] for one in x]), batches)
    return answers, labels, logits


def test_the_numbers_are_scikit_learns():
    answers, labels, logits = random_answers()
    record = evaluation_record(answers, NAMES, source="a model", data="some")
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    guesses = probabilities.argmax(1)
    assert record["accuracy"] == accuracy_score(labels, guesses)
    assert record["loss"] == pytest.approx(log_loss(labels, probabilities), rel=1e-12)
    recalls = recall_score(labels, guesses, average=None)
    assert [one["recall"] for one in record["classes"]] == pytest.approx(recalls)
    assert np.sum(record["confusion"]) == 500
    assert [one["name"] for one in record["classes"]] == NAMES

    wrong = np.flatnonzero(guesses != labels)
    surest = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:MOST_MISTAKES]
    assert [one["index"] for one in record["mistakes"]] == surest.tolist()
    assert record["mistakes"][0]["class"] == NAMES[labels[surest[0]]]


def test_answers_beyond_the_named_classes_are_called_by_their_numbers():
    answers = collect_answers(lambda x: np.eye(5)[[0, 4]], [(np.zeros((2, 5)), np.array([0, 1]))])
    record = evaluation_record(answers, ["a", "b"])
    assert [one["name"] for one in record["classes"]] == ["a", "b", "2", "3", "4"]
    assert record["mistakes"][0]["answer"] == "4"


def test_a_class_that_is_never_answered_has_no_precision():
    answers = collect_answers(lambda x: np.eye(3)[[0, 0]], [(np.zeros((2, 5)), np.array([0, 1]))])
    record = evaluation_record(answers, NAMES)
    assert [one["precision"] for one in record["classes"]] == [0.5, None, None]
    assert [one["recall"] for one in record["classes"]] == [1.0, 0.0, None]
    json.dumps(record, allow_nan=False)


def test_the_page_shows_a_gallery_of_images_and_a_list_of_other_inputs(tmp_path):
    for shape, is_image in (((4, 4, 1), True), ((4, 4, 3), True), ((4, 4), False)):
        answers, *_ = random_answers(shape=shape)
        record = evaluation_record(answers, NAMES, source="<b>", data="some")
        write_evaluation(tmp_path, answers, record)
        page = (tmp_path / "evaluation.html").read_text()
        assert ("data:image/png;base64" in page) == is_image
        assert ("<li>Example " in page) != is_image
        assert "&lt;b&gt;" in page
        assert not re.search(r'(src|href)="(?!#|data:)', page)  # one file, without a network
    for name in ("confusion_matrix.png", "mistakes.png"):
        with Image.open(tmp_path / name) as image:
            assert image.width == 720


def test_the_report_of_a_study_shows_its_best_run(tmp_path):
    answers, *_ = random_answers()
    record = evaluation_record(answers, NAMES, source="runs/before/seed-1", data="some, test")
    write_study_report(tmp_path, make_study(tmp_path), (answers, record))
    page = (tmp_path / "report.html").read_text()
    assert "runs/before/seed-1" in page
    assert "The surest mistakes" in page
    assert page.count("<svg") >= 4
    assert (tmp_path / "figures" / "confusion_matrix.png").exists()


def test_a_run_and_its_export_get_the_numbers_of_its_summary(
    trained, call, monkeypatch, in_this_process
):
    monkeypatch.chdir(trained)
    tested = RunFolder("run").summary()["test"]
    code, printed, errors = call("evaluate", "run")
    assert code == 0, errors
    assert f"  accuracy  {tested['accuracy']:.4f}" in printed
    assert f"  loss      {tested['loss']:.4f}" in printed
    record = json.loads((trained / "run" / "evaluation" / "evaluation.json").read_text())
    assert record["accuracy"] == pytest.approx(tested["accuracy"])
    assert record["loss"] == pytest.approx(tested["loss"], rel=1e-5)
    assert (trained / "run" / "evaluation" / "evaluation.html").exists()
    assert len(re.findall(r"^  \d ", printed, re.MULTILINE)) == 10  # a row for each class

    assert call("export", "run", "--out", "served/small")[0] == 0
    code, again, errors = call("evaluate", "served/small")
    assert code == 0, errors
    assert again.splitlines()[1:4] == printed.splitlines()[1:4]
    assert (trained / "runs" / "small-evaluation" / "confusion_matrix.png").exists()
    assert call("evaluate", "served/small/1", "--out", "elsewhere")[0] == 0
    assert (trained / "elsewhere" / "evaluation.html").exists()


def make_arrays(folder, names, shift=0):
    """Ones of the digits under other names, as `npz:` takes them."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    kept = labels < len(names)
    images = (images[kept].reshape(-1, 8, 8, 1) * 16).clip(0, 255).astype("uint8")
    file = folder / "mine.npz"
    halves = {"x_train": images[::2], "x_test": images[1::2]}
    halves |= {"y_train": labels[kept][::2], "y_test": labels[kept][1::2]}
    np.savez(file, **halves, class_names=np.array(names))
    return f"npz:{file}"


def test_own_data_may_have_fewer_classes_but_no_others(trained, call, tmp_path):
    code, printed, errors = call(
        "evaluate", trained / "run", "--data", make_arrays(tmp_path, ["0", "1", "2"]),
        "--out", tmp_path / "mine",
    )  # fmt: skip
    assert code == 0, errors
    record = json.loads((tmp_path / "mine" / "evaluation.json").read_text())
    assert [one["examples"] > 0 for one in record["classes"]] == [True] * 3 + [False] * 7
    assert record["accuracy"] > 0.5

    for label in (3, 7):  # a color image of another size, in a folder of its class alone
        (tmp_path / "photos" / str(label)).mkdir(parents=True)
        Image.new("RGB", (30, 20)).save(tmp_path / "photos" / str(label) / "one.png")
    code, printed, errors = call(
        "evaluate", trained / "run", "--data", f"folder:{tmp_path / 'photos'}",
        "--out", tmp_path / "photos_evaluated",
    )  # fmt: skip
    assert code == 0, errors
    assert "2 examples" in printed

    own = call("evaluate", trained / "run", "--data", f"folder:{tmp_path / 'photos'}")[1]
    assert own.splitlines()[-1].startswith(f"  page      {trained / 'run' / 'evaluation-folder-'}")
    code, _, errors = call("evaluate", trained / "run", "--out", trained)
    assert code == 2
    assert "expected a new folder or one of an evaluation, found other files in it" in errors

    data = make_arrays(tmp_path, ["0", "1", "cat"])
    code, printed, errors = call("evaluate", trained / "run", "--data", data)
    assert (code, printed) == (2, "")
    assert "expected classes that the model was trained on (0, 1, 2" in errors
    assert "got others: cat" in errors
    new = tmp_path / "new"
    assert call("evaluate", trained / "run", "--data", data, "--out", new)[0] == 2
    assert not new.exists()

    random = np.random.default_rng(0).random
    arrays = {"x_train": random((40, 7)), "x_test": random((40, 7))}
    labels = dict.fromkeys(("y_train", "y_test"), np.arange(40) % 2)
    np.savez(tmp_path / "vectors.npz", **arrays, **labels)
    code, _, errors = call("evaluate", trained / "run", "--data", f"npz:{tmp_path}/vectors.npz")
    assert code == 2
    assert "got (7,)" in errors


def test_the_scale_of_training_holds_whatever_would_be_chosen_today(tmp_path):
    """A run of an older version took the same floats as they are."""
    random = np.random.default_rng(0)
    pixels = random.uniform(0, 255, (60, 4, 4, 1)).astype("float32")
    labels = np.arange(60) % 2
    file = tmp_path / "floats.npz"
    np.savez(file, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    checked = validate({"data": {"name": f"npz:{file}"}, "model": {"name": "dense"}}, "test")
    metadata = {"input_shape": [4, 4, 1], "class_names": ["0", "1"]}
    for scale in (1.0, 1 / 255):
        seen = []

        def logits_of(inputs, seen=seen):
            seen.append(inputs)
            return np.zeros((len(inputs), 2))

        about = metadata | {"preprocessing": {"scale": scale}}
        evaluate(logits_of, checked, about, "a run")
        np.testing.assert_allclose(np.concatenate(seen), pixels * scale, rtol=1e-6)


def test_a_run_is_evaluated_on_its_part_of_the_test_set_and_named_data_in_full(tmp_path):
    tree = {"data": {"name": "digits", "test_size": 50}, "model": {"name": "dense"}}
    checked = validate(tree | {"train": {"epochs": 1, "tensorboard": False}}, "test")
    summary = train(checked, tmp_path)
    assert summary["data"]["examples"]["test"] == 50
    record = evaluate_run(tmp_path)[1]
    assert sum(one["examples"] for one in record["classes"]) == 50
    assert record["loss"] == pytest.approx(summary["test"]["loss"], rel=1e-5)
    whole = evaluate_run(tmp_path, "digits")[1]
    assert sum(one["examples"] for one in whole["classes"]) > 300


def test_many_classes_make_no_huge_page(tmp_path):
    labels = np.arange(300)
    batches = [(np.zeros((300, 2)), labels)]
    answers = collect_answers(lambda x: np.random.default_rng(0).normal(size=(300, 300)), batches)
    names = [f"class {label}" for label in labels]
    write_evaluation(tmp_path, answers, evaluation_record(answers, names, source="", data=""))
    assert (tmp_path / "evaluation.html").stat().st_size < 1e6


@pytest.mark.parametrize("source", ["nowhere", "empty", "file.keras"])
def test_what_cannot_be_evaluated_is_one_clear_error(call, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, printed, errors = call("evaluate", source)
    assert (code, printed) == (2, "")
    assert errors.startswith("bnzoo evaluate: ")
    assert source in errors
    assert len(errors.splitlines()) == 1


def test_runs_lists_what_there_is(trained, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "run", tmp_path / "runs" / "deep" / "one")
    shutil.copytree(trained / "run", tmp_path / "runs" / "stopped")
    (tmp_path / "runs" / "stopped" / "summary.json").unlink()
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.yaml").write_text("no: config")
    (tmp_path / "runs" / "stopped" / "gone").symlink_to("/nowhere")
    shutil.copytree(trained / "run", tmp_path / "runs" / "cut")
    (tmp_path / "runs" / "cut" / "summary.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    code, printed, errors = call("runs")
    assert code == 0
    assert sorted(tmp_path.rglob("*")) == before  # not even a lock
    rows = {line.split()[0]: line for line in printed.splitlines()[1:]}
    assert set(rows) == {f"runs/{name}" for name in ("deep/one", "stopped", "broken", "cut")}
    assert "unreadable" in rows["runs/cut"]
    accuracy = RunFolder("runs/deep/one").summary()["test"]["accuracy"]
    assert re.search(
        rf"run +completed +digits +dense before +{accuracy:.4f} test", rows["runs/deep/one"]
    )
    assert "unfinished" in rows["runs/stopped"]
    assert "unreadable" in rows["runs/broken"]
    assert "runs/broken/config.yaml" in errors
    (tmp_path / "empty").mkdir()
    for name, found in (("nowhere", "no such folder"), ("empty", "none in it")):
        code, printed, errors = call("runs", name)
        assert (code, printed) == (2, "")
        assert f"{name}: expected a folder with runs, studies or sweeps, found {found}" in errors
