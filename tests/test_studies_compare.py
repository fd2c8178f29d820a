"""A study from its config to its summary: runs, numbers, stopping, going on."""

import html
import json
import statistics

import keras
import pytest

from bnzoo import config, load_model, runs
from bnzoo.errors import InputError
from bnzoo.reporting.report import write_study_report
from bnzoo.serving import export_source
from bnzoo.studies import compare
from bnzoo.studies import study as study_module
from bnzoo.studies.summary import shared_findings
from bnzoo.training import train

TREE = {
    "data": {"name": "digits", "validation": 0.2, "batch_size": 256},
    "model": {"name": "dense", "units": [8]},
    "train": {
        "epochs": 2,
        "optimizer": {"name": "adam", "learning_rate": 0.03},
        "tensorboard": False,
        "jit_compile": False,  # compiling takes longer than these few steps
    },
    "compare": {
        "baseline": {"model.placement": "none"},
        "variants": {"before": {"model.placement": "before"}},
        "seeds": [3, 5],
    },
}


def make_config(*pairs):
    return config.validate(config.apply_overrides(TREE, pairs), source="test")


def study(out, *pairs, **arguments):
    reports = []
    arguments = {"write_report": lambda *report: reports.append(report), **arguments}
    return compare(make_config(*pairs), out, **arguments), reports


@pytest.fixture
def unmeasured(monkeypatch):
    """Leave the estimate out: measuring takes as long as these runs themselves."""
    monkeypatch.setattr(study_module, "measure_seconds", lambda config: (1.0, 1.0))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One completed study: its folder, its summary, and what was said and reported."""
    folder = runs.StudyFolder(tmp_path_factory.mktemp("studies") / "finished")
    lines, begun = [], []
    summary, reports = study(
        folder.path,
        announce=lines.append,
        begin_run=lambda *what: begun.append(what),
        command="bnzoo compare it",
    )
    return folder, summary, lines, begun, reports


def test_the_folder_holds_ordinary_runs_of_every_variant_and_seed(finished):
    folder, summary, *_ = finished
    assert {path.name for path in folder.path.iterdir()} == {"config.yaml", "runs", "summary.json"}
    assert folder.config() == make_config()
    assert json.loads(folder.summary_file.read_text()) == summary
    for name in ("baseline", "before"):
        for seed in (3, 5):
            run = folder.run(name, seed)
            assert run.status() == "completed"
            assert len(run.history()) == 2
            assert run.model_file.exists()
            overrides = ("seed", seed), ("model.placement", "none" if name == "baseline" else name)
            assert run.config() == make_config(*overrides).single_run()


def test_the_report_is_written_once_from_the_summary(finished):
    folder, summary, *_, reports = finished
    ((path, reported, (_, record), _),) = reports
    assert (path, reported) == (folder.path, summary)
    best = runs.RunFolder(folder.best_run().path)
    assert record["accuracy"] == pytest.approx(best.summary()["test"]["accuracy"])


def test_runs_are_counted_seed_by_seed(finished):
    assert finished[3] == [
        (1, 4, "baseline seed 3"),
        (2, 4, "before seed 3"),
        (3, 4, "baseline seed 5"),
        (4, 4, "before seed 5"),
    ]


def test_an_estimate_of_the_time_comes_first(finished):
    lines = finished[2]
    assert lines[0].startswith("Timing a few steps")
    assert lines[1].startswith("Estimate: about ")
    assert " for 4 runs (baseline " in lines[1]


def test_the_summary_says_what_was_run(finished):
    _, summary, *_ = finished
    assert (summary["kind"], summary["status"]) == ("study", "completed")
    assert "study" not in summary  # nothing is watched
    assert (summary["name"], summary["command"]) == ("finished", "bnzoo compare it")
    assert summary["protocol"].startswith("validation on 0.2 of the training set")
    assert summary["config"]["compare"]["seeds"] == summary["seeds"] == [3, 5]
    assert summary["versions"]["keras"] == keras.__version__
    assert summary["machine"]["cores"]
    assert summary["device"]
    assert list(summary["variants"]) == ["baseline", "before"]
    assert summary["variants"]["before"]["overrides"] == {"model.placement": "before"}
    said = [variant["verdict"] for variant in summary["variants"].values()]
    assert summary["verdict"].splitlines() == [*said, *summary["note"].splitlines()]


def test_the_numbers_are_those_of_the_runs(finished):
    folder, summary, *_ = finished
    entry = summary["variants"]["before"]
    for position, seed in enumerate((3, 5)):
        run, found = folder.run("before", seed), entry["runs"][position]
        told, rows = run.summary(), run.history()
        assert found == {
            "seed": seed,
            "status": "completed",
            "folder": f"runs/before/seed-{seed}",
            "test_accuracy": told["test"]["accuracy"],
            "test_loss": told["test"]["loss"],
            "best": told["best"]["row"],
            "selection_metric": "val_accuracy",
            "final": rows[-1],
            "first_epoch_loss": rows[0]["loss"],
            "epochs": 2,
            "steps": 10,
            "seconds_per_epoch": statistics.median(row["seconds"] for row in rows),
            "diverged": None,
        }
        for key in ("test_accuracy", "test_loss", "first_epoch_loss", "seconds_per_epoch"):
            assert entry[key]["values"][position] == found[key]
    values = entry["test_accuracy"]["values"]
    assert entry["test_accuracy"]["mean"] == pytest.approx(sum(values) / 2)
    baseline = summary["variants"]["baseline"]["test_accuracy"]["values"]
    assert entry["difference"]["values"] == [a - b for a, b in zip(values, baseline, strict=True)]
    assert entry["difference"]["interval"][0] < entry["difference"]["mean"]
    assert summary["variants"]["baseline"]["difference"] is None


def test_epochs_and_steps_to_the_best_of_the_baseline(finished):
    folder, summary, *_ = finished
    best = {seed: folder.run("baseline", seed).summary()["best"]["row"] for seed in (3, 5)}
    own = summary["variants"]["baseline"]["epochs_to_baseline_best"]
    assert own["values"] == [best[seed]["epoch"] for seed in (3, 5)]
    assert own["target"] == pytest.approx(sum(row["val_accuracy"] for row in best.values()) / 2)
    found = summary["variants"]["before"]["epochs_to_baseline_best"]["values"]
    for seed, epoch in zip((3, 5), found, strict=True):
        target = best[seed]["val_accuracy"]
        reached = [
            row["epoch"]
            for row in folder.run("before", seed).history()
            if row["val_accuracy"] >= target
        ]
        assert epoch == (reached[0] if reached else None)
    steps = summary["variants"]["before"]["steps_to_baseline_best"]["values"]
    assert steps == [epoch and epoch * 5 for epoch in found]  # ceil(1150 / 256) steps an epoch


def test_resuming_a_finished_study_runs_nothing_and_reports_again(finished):
    folder, summary, *_ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.runs.rglob("*")}
    lines = []
    again, reports = study(
        folder.path, resume=True, announce=lines.append, command="bnzoo compare it"
    )
    assert again == summary
    assert {path: path.stat().st_mtime_ns for path in folder.runs.rglob("*")} == before
    assert lines == ["4 of 4 runs have ended already."]
    assert len(reports) == 1


def test_a_study_is_as_good_as_its_best_run(finished, tmp_path):
    folder = finished[0]
    best = folder.best_run()
    assert best.path.parent.parent == folder.runs
    assert load_model(folder.path).count_params() == load_model(best.path).count_params()
    exported = export_source(folder.path, tmp_path / "served")
    facts = json.loads((exported / "bnzoo.json").read_text())
    assert facts["run"] == best.path.relative_to(folder.path).as_posix()
    assert facts["test"] == best.summary()["test"]


def test_a_config_without_the_section_is_told_what_to_add(tmp_path):
    with pytest.raises(InputError, match=r"compare: expected this section .*variants: \{before"):
        compare(make_config().single_run(), tmp_path)
    assert list(tmp_path.iterdir()) == []


class StopAt(keras.callbacks.Callback):
    """Raise in the second epoch of the n-th run."""

    def __init__(self, run, error):
        super().__init__()
        self._left, self._error = run, error

    def on_train_begin(self, logs=None):
        self._left -= 1

    def on_epoch_begin(self, epoch, logs=None):
        if self._left == 0 and epoch == 1:
            raise self._error


def test_ctrl_c_stops_a_study_once_and_it_goes_on_where_it_was(tmp_path, finished, unmeasured):
    one_seed = ("compare.seeds", [3])
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path, one_seed, callbacks=[StopAt(2, KeyboardInterrupt())])
    folder = runs.StudyFolder(tmp_path)
    found = folder.summary()
    assert found["status"] == "interrupted"
    assert found["verdict"].startswith("Not finished. So far:\nbaseline: ")
    states = {
        name: [run["status"] for run in entry["runs"]] for name, entry in found["variants"].items()
    }
    assert states == {"baseline": ["completed"], "before": ["missing"]}
    assert found["variants"]["before"]["difference"]["n"] == 0
    assert folder.run("before", 3).last_checkpoint()[0] == 1
    with pytest.raises(InputError, match="got one that is interrupted"):
        load_model(tmp_path)

    begun = []
    again, _ = study(tmp_path, one_seed, resume=True, begin_run=lambda *what: begun.append(what))
    assert begun == [(2, 2, "before seed 3")]
    assert again["status"] == "completed"
    (value,) = again["variants"]["before"]["test_accuracy"]["values"]
    expected = finished[1]["variants"]["before"]["test_accuracy"]["values"][0]
    # The same seed; two threads may still add in another order.
    assert value == pytest.approx(expected, abs=0.01)


def test_an_error_in_a_run_stops_the_study_and_loses_nothing(tmp_path, unmeasured):
    pairs = ("compare.seeds", [0]), ("compare.variants", {"after": {"model.placement": "after"}})
    with pytest.raises(RuntimeError, match="out of memory"):
        study(tmp_path, *pairs, callbacks=[StopAt(2, RuntimeError("out of memory"))])
    folder = runs.StudyFolder(tmp_path)
    assert folder.status() == "interrupted"
    assert folder.run("baseline", 0).status() == "completed"
    assert folder.run("after", 0).last_checkpoint()[0] == 1


def test_a_study_tells_the_problems_of_each_variant(tmp_path, unmeasured):
    """Or batch normalization would seem to do harm that more steps undo."""
    pairs = ("model.batch_norm", {"momentum": 0.999}), ("train.epochs", 1), ("compare.seeds", [0])
    summary, _ = study(tmp_path, *pairs)
    assert summary["variants"]["baseline"]["findings"] == []
    found = summary["variants"]["before"]["findings"]
    assert any(
        "Too few steps" in one["line"] and "(In 1 of 1 run.)" in one["line"] for one in found
    )
    titles = "; ".join(one["title"] for one in found)
    assert summary["note"] == f"problem (before): {titles}. The report says more."
    assert summary["verdict"].endswith(summary["note"])
    write_study_report(tmp_path, summary)
    page = html.unescape((tmp_path / "report.html").read_text())
    assert all(page.count(one["line"]) == 1 for one in found)


def test_problems_that_several_runs_share_are_told_once():
    one, two = ({"kind": kind, "title": kind, "line": f"{kind}."} for kind in ("far", "few"))
    runs_of_it = [{"findings": [one, two]}, {"findings": [two | {"line": "few again."}]}, {}]
    lines = [found["line"] for found in shared_findings(runs_of_it)]
    assert lines == ["far. (In 1 of 2 runs.)", "few. (In 2 of 2 runs.)"]


def test_a_diverged_run_is_a_result_and_the_study_goes_on(tmp_path, unmeasured):
    wild = {"train.optimizer": {"name": "sgd", "learning_rate": 1e30}, "model.placement": "none"}
    pairs = ("compare.variants.wild", wild), ("train.epochs", 1), ("compare.seeds", [0])
    summary, reports = study(tmp_path, *pairs)
    entry = summary["variants"]["wild"]
    assert summary["status"] == "completed"
    assert entry["runs"][0]["status"] == "diverged"
    assert entry["runs"][0]["diverged"]["epoch"] == 1
    assert entry["diverged"] == 1
    assert entry["test_accuracy"] == {"n": 0, "mean": None, "std": None, "values": [None]}
    assert entry["difference"]["interval"] is None
    assert entry["epochs_to_baseline_best"]["values"] == [None]
    assert "diverged with 1 of 1 seed" in entry["verdict"]
    assert summary["variants"]["before"]["difference"]["n"] == 1
    assert reports
    assert "wild" not in str(runs.usable_run(tmp_path))


def test_runs_of_bnzoo_train_in_their_places_are_taken_over(tmp_path, unmeasured):
    overrides = ("seed", 3), ("model.placement", "none"), ("train.epochs", 1)
    train(make_config(*overrides), tmp_path / "runs" / "baseline" / "seed-3")
    begun = []
    summary, _ = study(
        tmp_path,
        ("train.epochs", 1),
        ("compare.seeds", [3]),
        resume=True,
        begin_run=lambda *what: begun.append(what),
    )
    assert begun == [(2, 2, "before seed 3")]
    assert summary["variants"]["baseline"]["test_accuracy"]["n"] == 1


def test_runs_of_another_config_in_their_places_are_refused_before_anything_runs(tmp_path):
    out = tmp_path / "runs" / "before" / "seed-5"
    runs.RunFolder(out).start(make_config())
    runs.RunFolder(out).claim(make_config(("seed", 5), ("train.epochs", 9)).single_run())
    with pytest.raises(InputError, match=r"seed-5: holds a run of another config") as caught:
        study(tmp_path, resume=True)
    assert "train.epochs: 9 there, 2 here" in str(caught.value)
    assert not (tmp_path / "config.yaml").exists()


def test_data_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"data\.batch_size: 99999"):
        study(tmp_path, ("compare.variants.before", {"data.batch_size": 99999}))
    assert list(tmp_path.iterdir()) == []


def test_the_published_protocol_is_labelled_and_is_the_validation(tmp_path, unmeasured):
    summary, _ = study(
        tmp_path, ("data.validation", "test"), ("train.epochs", 1), ("compare.seeds", [0])
    )
    assert summary["protocol"].startswith("published protocol")
    run = summary["variants"]["before"]["runs"][0]
    assert run["final"]["val_accuracy"] == pytest.approx(run["test_accuracy"])
    assert "with one seed, which settles nothing" in summary["verdict"]


def test_starting_afresh_keeps_the_callers_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        study_module.start_afresh()
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
