"""Models and data of the user's own in every command, and one line for each mistake."""

import contextlib
import json
import shutil

import pytest
from own_functions import MODELS, line_of, write
from ruamel.yaml import YAML

import bnzoo
from bnzoo.config import load_config, space_of
from bnzoo.errors import InputError
from bnzoo.files import read_columns
from bnzoo.runs import RunFolder, StudyFolder
from bnzoo.saving import custom_objects_of, load_model
from bnzoo.studies import compare
from bnzoo.studies import study as study_module
from bnzoo.studies.evaluation import evaluate_run
from bnzoo.training import train
from bnzoo.tuning.sweep import tune

FAST = {"epochs": 2, "optimizer": {"name": "adam", "learning_rate": 0.03}, "tensorboard": False}
REGRESSION = {"loss": "mse", "metrics": ["mae"]}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path))
    return tmp_path


def config(model, data="digits", params=None, train=None, batch_norm=None, **sections):
    """Write a config of one's own functions and return its path."""
    data = {"name": data if data == "digits" else f"my_data.py:{data}"}
    model = {"name": f"my_models.py:{model}", "params": params or {}}
    model |= (
        {"batch_norm": {"momentum": 0.5, **(batch_norm or {})}}
        if model["name"].endswith(":build")
        else {}
    )
    tree = {"data": data, "model": model, "train": {**FAST, **(train or {})}, **sections}
    with open("mine.yaml", "w") as file:
        YAML().dump(tree, file)
    return "mine.yaml"


def run(*arguments, out="run", resume=False, **named):
    return train(load_config(config(*arguments, **named)), out, resume)


# --- training ------------------------------------------------------------------------------------


def test_a_model_of_ones_own_gets_what_the_config_says(here):
    run("build", params={"width": 6}, batch_norm={"epsilon": 0.01}, train={"epochs": 1})
    model = load_model("run")
    (layer,) = [one for one in model.layers if isinstance(one, bnzoo.BatchNormalization)]
    assert (layer.momentum, layer.epsilon) == (0.5, 0.01)
    assert model.layers[2].units == 6
    assert model.output_shape == (None, 10)


def test_the_history_has_the_models_own_metrics(here):
    loss = {"loss": "mse", "metrics": ["mae", "my_models.py:off_by"]}
    summary = run("plain", "table", train=loss)
    columns = read_columns(RunFolder("run").history_file)
    assert columns == (
        "epoch", "loss", "mae", "off_by", "val_loss", "val_mae", "val_off_by",
        "learning_rate", "seconds",
    )  # fmt: skip
    assert set(summary["test"]) == {"loss", "mae", "off_by"}
    assert summary["test"]["mae"] == pytest.approx(summary["test"]["off_by"])
    assert summary["best"]["metric"] == "val_loss"
    assert summary["best"]["row"]["val_loss"] == min(
        row["val_loss"] for row in RunFolder("run").history()
    )


@pytest.mark.parametrize(
    ("model", "data", "settings"),
    [
        ("plain", "datasets", {"loss": "mse"}),
        ("plain", "sequences", REGRESSION),
        ("two_inputs", "nested", {"loss": {"a": "mse", "b": "mae"}}),
        ("tagger", "tokens", {}),
        ("Subclassed", "digits", {}),
        ("with_layer", "digits", {}),
    ],
)
def test_models_and_data_of_every_kind_are_trained(model, data, settings):
    summary = run(model, data, train={**settings, "epochs": 1})
    assert summary["status"] == "completed"
    assert RunFolder("run").model_file.exists()


def test_a_loss_of_ones_own_is_resumed_in_the_middle(here):
    settings = {"loss": "my_models.py:off_by", "metrics": ["mae"]}
    whole = run("plain", "table", train={**settings, "epochs": 2}, out="whole")
    run("plain", "table", train={**settings, "epochs": 1}, out="short")
    checked = load_config(config("plain", "table", train={**settings, "epochs": 2}))
    RunFolder("middle").begin_from(RunFolder("short"), checked)  # as if it had been stopped there
    again = train(checked, "middle", resume=True)
    assert again["test"]["loss"] == pytest.approx(whole["test"]["loss"], rel=1e-5)


def test_a_loss_below_zero_is_no_divergence(here):
    (here / "my_models.py").write_text(
        MODELS + "\n\ndef negative(y_true, y_pred):\n    return off_by(y_true, y_pred) - 100.0\n"
    )
    summary = run("plain", "table", train={"loss": "my_models.py:negative"})
    assert summary["status"] == "completed"


def test_the_run_keeps_the_text_as_evidence_and_refuses_to_go_on_with_another(here):
    run("build")
    folder = RunFolder("run")
    assert (folder.code / "my_models.py").read_text() == MODELS
    assert list(json.loads(folder.data_file.read_text())["code"]) == ["my_models.py"]
    (here / "my_models.py").write_text(MODELS + "\n# other\n")
    with pytest.raises(InputError, match=r"my_models\.py: expected the text that the first runs"):
        run("build", resume=True)


def test_early_stopping_on_an_accuracy_that_is_not_measured_is_refused(here):
    stopping = {"early_stopping": {"monitor": "val_accuracy"}, **REGRESSION}
    with pytest.raises(InputError, match=r"expected loss or val_loss, as train\.metrics"):
        load_config(config("plain", "table", train=stopping))


# --- loading and evaluating ----------------------------------------------------------------------


def test_a_model_with_layers_of_ones_own_loads_only_with_them(here):
    run("with_layer", train={"epochs": 1})
    with pytest.raises(InputError, match="Twice"):
        load_model("run")
    with custom_objects_of(here / "my_models.py"):
        assert load_model("run").built


def test_the_kept_copy_never_runs_by_itself(here):
    """Not when the run is loaded, listed or evaluated, whatever is written into it."""
    run("plain", "table", train={**REGRESSION, "epochs": 1})
    for file in RunFolder("run").code.iterdir():
        file.write_text("raise SystemExit\n")
    for file in here.glob("*.py"):
        file.write_text("raise SystemExit\n")
    load_model("run")
    with pytest.raises(InputError, match=r"expected consent to run .* --data my_data.py:table"):
        evaluate_run("run")


def test_a_regression_is_evaluated_by_its_metrics(here, call):
    summary = run("plain", "table", train=REGRESSION)
    code, out, error = call("evaluate", "run", "--data", "my_data.py:table", "--out", "page")
    assert (code, error) == (0, "")
    assert f"mae   {summary['test']['mae']:.4f}" in out
    record = json.loads((here / "page" / "evaluation.json").read_text())
    assert record["metrics"] == pytest.approx(summary["test"], rel=1e-5)
    assert "Mae" in (here / "page" / "evaluation.html").read_text()


def test_a_classifier_is_evaluated_class_by_class(here, call):
    (here / "my_models.py").write_text(
        MODELS + "\n\ndef flat(input_shape, classes):\n    return plain(input_shape, classes)\n"
    )
    summary = run("flat", "integers")
    answers, record = evaluate_run("run", "my_data.py:integers")
    assert record["accuracy"] == pytest.approx(summary["test"]["accuracy"])
    assert [one["name"] for one in record["classes"]] == ["0", "1"]
    assert len(answers.labels) == 18


@pytest.mark.parametrize(
    ("model", "data"), [("reader", "words"), ("two_inputs_to_classes", "two_tables")]
)
def test_a_classifier_of_texts_or_of_several_inputs_is_evaluated_too(here, call, model, data):
    summary = run(model, data, train={"epochs": 1})
    code, out, error = call("evaluate", "run", "--data", f"my_data.py:{data}")
    assert (code, error) == (0, "")
    assert f"accuracy  {summary['test']['accuracy']:.4f}" in out


def test_evaluate_takes_the_users_layers(here, call):
    run("with_layer", train={"epochs": 1})
    code, _, error = call("evaluate", "run")
    assert code == 2
    assert "Twice" in error
    code, out, _ = call("evaluate", "run", "--custom-objects", "my_models.py")
    assert code == 0
    assert "accuracy" in out


def test_other_data_of_ones_own_must_have_the_shape(here):
    run("plain", "table", train={**REGRESSION, "epochs": 1})
    with pytest.raises(InputError, match=r"expected examples of shape \(4,\), .* got \(3,\)"):
        evaluate_run("run", "my_data.py:integers")


# --- studies and sweeps --------------------------------------------------------------------------

SECTIONS = {
    "compare": {"variants": {"longer": {"train.epochs": 3}}, "seeds": [0]},
    "tune": {"algorithm": "grid", "space": {"train.optimizer.learning_rate": [0.01, 0.1]}},
}


def no_timing(monkeypatch):
    monkeypatch.setattr(study_module, "measure_seconds", lambda config: (1.0, 1.0))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a study, a sweep, their summaries and their config."""
    folder = write(tmp_path_factory.mktemp("finished"))
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        no_timing(patch)
        checked = load_config(config("plain", "table", train=REGRESSION, **SECTIONS))
        return folder, compare(checked, "study"), tune(checked, "sweep")


@pytest.fixture
def regression(here, finished):
    """The config, with the study and the sweep of it in the working directory."""
    shutil.copytree(finished[0], here, dirs_exist_ok=True)
    return load_config("mine.yaml")


def test_a_study_without_accuracy_is_judged_by_the_test_loss(here, regression, finished):
    summary = finished[1]
    assert summary["metric"] == "test loss"
    entries = summary["variants"]
    for entry in entries.values():
        assert entry["test_loss"]["n"] == entry["test_mae"]["n"] == 1
        assert "test_accuracy" not in entry
    losses = {name: entry["test_loss"]["mean"] for name, entry in entries.items()}
    best = min(losses, key=losses.get)
    assert f"runs/{best}/" in StudyFolder("study").best_run().path.as_posix()
    page = (here / "study" / "report.html").read_text()
    assert "Test loss" in page
    assert "Test accuracy" not in page
    assert "Validation mae after each epoch" in page


def test_a_sweep_without_accuracy_has_the_lowest_validation_loss_as_objective(
    here, regression, finished
):
    summary = finished[2]
    assert summary["objective"] == {"name": "val_loss", "direction": "min"}
    scores = {trial["trial"]: trial["score"] for trial in summary["trials"]}
    assert summary["best"]["trial"] == min(scores, key=scores.get)
    assert "test_loss" in (here / "sweep" / "trials.csv").read_text().splitlines()[0]
    assert "Test loss" in (here / "sweep" / "report.html").read_text()
    assert "stable" not in summary["verdict"]


def test_they_are_listed_with_the_loss(regression, call):
    code, out, _ = call("runs", ".")
    assert code == 0
    assert "test loss" in out
    assert "val_loss" in out


def test_the_objective_of_a_classifier_is_the_validation_accuracy(here):
    checked = load_config(config("build", tune=SECTIONS["tune"])).sweep()
    assert checked.tune.objective.name == "val_accuracy"
    checked = load_config("mine.yaml", ["data.validation=none"]).sweep()
    assert checked.tune.objective.name == "accuracy"


def test_a_study_whose_code_changed_is_not_resumed(here, regression):
    text = (here / "my_data.py").read_text()
    (here / "my_data.py").write_text(text.replace("default_rng(0)", "default_rng(1)"))
    with pytest.raises(InputError, match=r"my_data\.py: expected the text that the first runs had"):
        compare(regression, "study", resume=True)


def test_a_study_whose_data_changed_is_not_resumed(here, regression):
    """The text is the same, and what it reads is not."""
    for folder in (here / "study" / "runs").glob("*/seed-0"):
        facts = json.loads((folder / "data.json").read_text())
        (folder / "data.json").write_text(json.dumps({**facts, "fingerprint": "00000000"}))
    with pytest.raises(InputError, match="fingerprint: 00000000 there"):
        compare(regression, "study", resume=True)


def test_a_sweep_whose_code_changed_is_not_resumed(here, regression):
    (here / "my_models.py").write_text(MODELS + "\n")
    with pytest.raises(InputError, match=r"code\.my_models\.py: \w{16} there, \w{16} here"):
        tune(regression, "sweep", resume=True)


def test_code_that_changes_while_a_study_runs_stops_it(here, regression, monkeypatch):
    no_timing(monkeypatch)

    def change(position, total, label):
        (here / "my_models.py").write_text(MODELS + "\n")

    with pytest.raises(InputError, match="expected the text that the first runs had"):
        compare(regression, "other", begin_run=change)
    assert RunFolder("other/runs/baseline/seed-0").has_ended()


def test_a_range_of_an_argument_is_whole_where_both_ends_are(here):
    section = {
        **SECTIONS["tune"],
        "space": {"model.params.width": {"min": 4, "max": 9, "steps": 3}},
    }
    checked = load_config(config("build", tune=section))
    assert space_of(checked)[0].values == (4, 6, 9)


@pytest.mark.slow
def test_workers_find_the_file_too(here, call):
    config("plain", "table", train=REGRESSION, **SECTIONS)
    code, out, error = call("tune", "mine.yaml", "--workers", 2, "--out", "sweep")
    assert code == 0, error
    assert "Best is learning_rate" in out


# --- what is wrong -------------------------------------------------------------------------------


def at(words):
    """Return the place in the user's file as a message begins with it."""
    return f"my_models.py, line {line_of(MODELS, words)}: "


FORGETS = "expected a model that can be saved and loaded again, as it is after each epoch; "
WRONG = {
    "no model": ("no_model", "digits", {}, "expected a function that returns a keras.Model, got D"),
    "raises": ("raises", "digits", {}, at("no_such_attribute") + "AttributeError: 'KerasTensor'"),
    "few outputs": ("few_outputs", "digits", {}, "of shape (32,) for a batch, got (32, 9): there"),
    "shape": ("other_shape", "digits", {}, "expected a model for examples of shape (8, 8, 1), as"),
    "not saved": ("not_saved", "digits", {}, FORGETS),
    "forgets": ("Forgetful", "digits", {}, "my_models.py:Forgetful: " + FORGETS),
    "local class": ("local_class", "digits", {}, FORGETS),
    "no loss": ("plain", "table", {}, "train.loss: expected a loss, as my_data.py:table has no cl"),
    "unknown loss": (
        "plain",
        "table",
        {"loss": "msee"},
        "Keras says: Could not interpret loss",
    ),
    "unknown metric": (
        "plain",
        "table",
        {"loss": "mse", "metrics": ["m"]},
        "Keras says: Could not",
    ),
    "loss raises": ("plain", "table", {"loss": "my_models.py:far_off"}, at("no loss today")),
    "no classes": (
        "build",
        "table",
        {"loss": "mse"},
        "expected classes, which my_models.py:build n",
    ),
    "no such input": ("plain", "nested", {"loss": "mse"}, "my_models.py, line "),
    "raises in training": ("raises_later", "digits", {}, at("not in training")),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_in_one_line(here, call, case):
    model, data, settings, message = WRONG[case]
    code, _, error = call("train", config(model, data, train=settings), "--out", "run")
    assert code == 2, error
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_outputs_that_would_be_broadcast_are_refused(here, call):
    code, _, error = call("train", config("plain", "table", {"units": 3}, REGRESSION), "--out", "r")
    assert code == 2
    assert "of shape (32, 1) for a batch, got (32, 3): mse compares number with number" in error


CHECKED = {
    "model.params.widht": (
        {"params": {"widht": 3}},
        "mine.yaml: model.params.widht: expected an argument of my_models.py:build, which has none "
        "of that name. Did you mean 'width'?",
    ),
    "in a variant": (
        {"compare": {"variants": {"wide": {"model.params.depth": 3}}}},
        "mine.yaml: compare.variants.wide: model.params.depth: expected an argument of my_models",
    ),
    "in a space": (
        {"tune": {"algorithm": "grid", "space": {"model.params.depth": [1, 2]}}},
        "mine.yaml: tune.space: model.params.depth: expected an argument of my_models",
    ),
}


@pytest.mark.parametrize("case", CHECKED)
def test_a_check_finds_what_a_function_does_not_take(here, call, case):
    sections, message = CHECKED[case]
    code, out, _ = call("check", config("build", **sections))
    assert code == 2
    assert message in out
    assert len(out.strip().splitlines()) == 1


def test_a_check_finds_that_a_placement_would_change_nothing(here, call):
    path = config("plain", "table", train=REGRESSION)
    code, out, _ = call("check", path, "--set", "model.placement=none")
    assert code == 2
    assert "model.placement: expected an argument of my_models.py:plain, which has none" in out


def test_a_missing_file_is_told_with_the_folder_where_it_was_sought(here, call):
    path = config("build")
    shutil.move("my_models.py", "other_models.py")
    code, out, _ = call("check", path)
    assert code == 2
    assert f"found none at my_models.py in the working directory {here}" in out
