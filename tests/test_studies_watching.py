"""What all studies that watch a training share: when they look, what is written, what is told."""

import html
import math
import shutil

import keras
import numpy as np
import pytest
from watching import StopIn, watch, watching_config

from bnzoo import load_model, runs
from bnzoo.errors import InputError
from bnzoo.files import RowFile, read_rows
from bnzoo.layers import BatchNormalization
from bnzoo.reporting.report import write_study_report
from bnzoo.studies import compare
from bnzoo.studies import study as study_module
from bnzoo.studies.running import join
from bnzoo.studies.watching import watch_of
from bnzoo.studies.watching.results import add_watched
from bnzoo.studies.watching.stateless import part_of, stateless
from bnzoo.training import train

SHIFT = {"name": "activation_shift", "every": 2, "examples": 300, "from_step": 4}


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    """Leave the estimate out: measuring takes as long as these runs themselves."""
    monkeypatch.setattr(study_module, "measure_seconds", lambda config: (1.0, 1.0))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One completed study with its report: its folder and its summary."""
    patch = pytest.MonkeyPatch()
    patch.setattr(study_module, "measure_seconds", lambda config: (1.0, 1.0))
    out = tmp_path_factory.mktemp("watched") / "study"
    summary = watch(out, SHIFT, write_report=write_study_report)
    patch.undo()
    return runs.StudyFolder(out), summary


def test_rows_are_written_where_a_look_is_due(finished):
    rows = read_rows(finished[0].run("before", 3).watched_file)
    places = [(row["epoch"], row["step"]) for row in rows]
    assert places == [(0, 0), (1, 2), (1, 4), (1, 6), (2, 8), (2, 10), (2, 12)]


def test_watching_changes_no_weight(finished, tmp_path):
    plain = train(watching_config(SHIFT, ("seed", 3)), tmp_path / "plain")
    watched = finished[0].run("before", 3)
    assert watched.summary()["test"] == plain["test"]
    pairs = zip(
        load_model(watched.path).get_weights(), load_model(tmp_path / "plain").get_weights(),
        strict=True,
    )  # fmt: skip
    assert all(np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_run_goes_on_with_the_same_rows(finished, tmp_path, epoch):
    config = watching_config(SHIFT)
    (run,) = (one for one in finished[0].planned(config) if one.variant == "before")
    with pytest.raises(KeyboardInterrupt):
        train(run.config, tmp_path, callbacks=[StopIn(epoch)], watch=watch_of(config))
    cut_off = tmp_path / "watched.csv"
    assert {row["epoch"] for row in read_rows(cut_off)} == set(range(epoch))
    train(run.config, tmp_path, resume=True, watch=watch_of(config))
    assert cut_off.read_text() == run.folder.watched_file.read_text()


def test_numbers_stand_beside_the_accuracy(finished):
    _, summary = finished
    assert summary["study"]["name"] == "activation_shift"
    assert list(summary["study"]["numbers"]) == ["median_shift"]
    for entry in summary["variants"].values():
        (run,) = entry["runs"]
        assert run["median_shift"] > 0
        assert entry["median_shift"] == {
            "n": 1,
            "mean": run["median_shift"],
            "std": None,
            "values": [run["median_shift"]],
        }


def test_the_report_shows_figure_and_numbers_before_the_curves(finished):
    folder, summary = finished
    assert (folder.figures / "activation_shift.png").stat().st_size > 10_000
    page = html.unescape(folder.report_file.read_text())
    assert page.index('id="watched"') < page.index('id="curves"')
    mean = summary["variants"]["before"]["median_shift"]["mean"]
    assert f">{mean:.3g}</td>" in page
    assert "15th, 50th and 85th percentile" in page


def test_a_diverged_run_has_no_number_of_what_was_not_measured(tmp_path):
    wild = {"train.optimizer": {"name": "sgd", "learning_rate": 1e38}, "model.activation": "relu"}
    pairs = ("compare.variants", {"wild": wild}), ("train.epochs", 1)
    study = {**SHIFT, "from_step": 2}
    summary = watch(tmp_path, study, *pairs)
    entry = summary["variants"]["wild"]
    assert entry["diverged"] == 1
    assert entry["median_shift"] == {"n": 0, "mean": None, "std": None, "values": [None]}
    assert summary["variants"]["baseline"]["median_shift"]["n"] == 1


@pytest.mark.parametrize(
    ("status", "values", "number", "notes"),
    [
        ("completed", [1.0, 2.0, 4.0], 3.0, []),
        ("completed", [1.0, math.nan, 4.0], None, ["not finite: what was watched of a seed 0 at"]),
        ("diverged", [1.0, 2.0, 4.0], None, []),  # the way of a part of the run is shorter
    ],
)
def test_a_part_of_a_run_gives_no_number(tmp_path, status, values, number, notes):
    folder = runs.StudyFolder(tmp_path)
    run = folder.run("a", 0)
    run.path.mkdir(parents=True)
    rows = [
        {"epoch": 1, "step": step, "p15_0": value - 0.5, "p50_0": value, "p85_0": value + 0.5}
        for step, value in zip((4, 6, 8), values, strict=True)
    ]
    RowFile(run.watched_file, list(rows[0]), 9).append(*rows)
    variants = {"a": {"runs": [{"seed": 0, "status": status, "folder": "runs/a/seed-0"}]}}
    _, found = add_watched(variants, folder, watching_config(SHIFT))
    assert variants["a"]["runs"][0]["median_shift"] == number
    assert [one[: len(start)] for one, start in zip(found, notes, strict=True)] == notes


def test_a_run_that_ended_unwatched_is_told_and_left(finished, tmp_path):
    config = watching_config(SHIFT)
    shutil.copytree(finished[0].path, tmp_path / "study")
    folder = runs.StudyFolder(tmp_path / "study")
    folder.run("baseline", 3).watched_file.unlink()  # as after `bnzoo train`
    summary = compare(config, folder.path, resume=True)
    assert summary["variants"]["baseline"]["median_shift"]["n"] == 0
    assert summary["variants"]["before"]["median_shift"]["n"] == 1
    assert summary["note"].count("not watched: baseline seed 3 ended without the study") == 1


def test_a_run_that_began_unwatched_is_refused(tmp_path):
    plain = watching_config(SHIFT, ("seed", 3), ("model.placement", "none")).single_run()
    with pytest.raises(KeyboardInterrupt):
        train(plain, tmp_path / "runs" / "baseline" / "seed-3", callbacks=[StopIn(2)])
    with pytest.raises(InputError, match=r"seed-3: expected a run that was watched from its first"):
        watch(tmp_path, SHIFT, resume=True)


def test_a_look_leaves_dropout_and_statistics_as_they_were():
    layers = [keras.Input((4,)), BatchNormalization(), keras.layers.Dropout(0.5)]
    model = keras.Sequential(layers)
    before, x = model.get_weights(), np.random.default_rng(0).normal(3, 2, (64, 4))
    look = stateless(model, lambda x: model(x, training=True))
    one, other = look(x), look(x)
    assert np.array_equal(one, other)
    assert np.mean(np.equal(one, 0)) > 0.3
    assert all(map(np.array_equal, before, model.get_weights()))


def test_a_part_of_a_model_takes_what_the_model_takes():
    layers = [keras.layers.Dense(2), keras.layers.ReLU(), keras.layers.Dense(1)]
    stack = keras.Sequential([keras.Input((3,)), *layers])
    x = np.ones((4, 3), "float32")
    assert part_of(stack, layers[1].output)(x).shape == (4, 2)
    inputs = {name: keras.Input((3,), name=name) for name in "ab"}
    total = keras.layers.Add()([*inputs.values()])
    model = keras.Model(inputs, keras.layers.Dense(1)(total))
    assert np.array_equal(part_of(model, total)({"a": x, "b": x}), 2 * x)


class NoWorkers:
    """In the place of a pool: nobody may be asked to work."""

    def __enter__(self):
        raise AssertionError("a worker was started")


@pytest.mark.parametrize("workers", [None, NoWorkers()])
def test_a_model_that_lacks_it_is_refused_before_anything_runs(tmp_path, workers):
    pairs = [("compare.variants.small", {"model.units": [8, 2]})]
    with pytest.raises(InputError, match=r"activation_shift, small: .* 0 to 1, got 5") as caught:
        watch(tmp_path, {**SHIFT, "unit": 5}, *pairs, workers=workers)
    assert "compare.study.unit" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_who_joins_watches_too(tmp_path, finished):
    config = watching_config(SHIFT)
    shutil.copytree(finished[0].path, tmp_path / "study")
    folder = runs.StudyFolder(tmp_path / "study")
    shutil.rmtree(folder.run("before", 3).path)
    with folder.held():
        join(config, folder.path, wait=1)
    theirs = finished[0].run("before", 3).watched_file.read_text()
    assert folder.run("before", 3).watched_file.read_text() == theirs


def test_a_claim_can_name_a_number_of_the_study():
    def claimed(number):
        expected = [f"before < baseline in {number}"]
        claim = {"source": "a", "published": "b", "differs": "c", "expected": expected}
        return watching_config(SHIFT, ("compare.claim", claim)).compare.claim

    assert claimed("median_shift").expectations()[0].number == "median_shift"
    with pytest.raises(InputError, match=r"got 'median_shfit'\. Did you mean 'median_shift'"):
        claimed("median_shfit")


def test_a_parameter_can_be_set_beside_the_word():
    settings = watching_config("landscape", ("compare.study.every", 7)).compare.study
    assert (settings.name, settings.every) == ("landscape", 7)


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ("activation_shfit", r"study.*got 'activation_shfit'\. Did you mean 'activation_shift'\?"),
        ({"name": "activation_shift", "evry": 3}, "unknown key 'evry'. Did you mean 'every'"),
        ({"unit": 3}, r"study.*name"),
        ({"name": "activation_shift", "every": 0}, r"study\.every: expected a whole number above"),
    ],
)
def test_an_unknown_study_or_key_names_the_near_ones(study, expected):
    with pytest.raises(InputError, match=expected):
        watching_config(study)
