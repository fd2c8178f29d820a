"""The search: four algorithms, conditions, divergence, and mistakes that stop it at once."""

import contextlib
import itertools
import json
import shutil

import pytest
from run_summaries import run_summary
from sweeps import PLACEMENT, RATE, make_config, rows, sweep

from bnzoo import config, runs
from bnzoo.config.tune import Objective
from bnzoo.errors import InputError
from bnzoo.files import RowFile
from bnzoo.training import train
from bnzoo.tuning.oracles import new_oracle, saved_oracle
from bnzoo.tuning.search import search
from bnzoo.tuning.trials import read_trials, run_score, trial_score

SPAN = {RATE: {"min": 1e-4, "max": 1.0, "scale": "log"}, PLACEMENT: ["none", "before"]}


class Stop(Exception):
    """The search is cut off here."""


def asked(folder, checked, score=lambda trial: 0.5, stop_before=None):
    """Search with a score that costs nothing, and return the trials that were asked for."""
    found = []

    def run_trial(trial):
        if len(found) == stop_before:
            raise Stop
        found.append(trial)
        return score(trial)

    folder.path.mkdir(exist_ok=True)
    with contextlib.suppress(Stop):
        search(saved_oracle(checked, folder), checked, run_trial)
    return found


def near(trial):
    """A score that is best at a rate of 0.1 before the activation, and diverges above 0.5."""
    rate = trial.values[RATE]
    if rate > 0.5:
        return -1e9
    return (trial.values[PLACEMENT] == "before") - abs(rate - 0.1) + 0.001 * (trial.epochs or 0)


ALGORITHMS = {
    "grid": {"space": {RATE: [0.01, 0.1, 1.0], PLACEMENT: ["none", "before"]}},
    "random": {"space": SPAN, "max_trials": 12},
    "bayesian": {"space": SPAN, "max_trials": 12},
    "hyperband": {"space": SPAN},
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_that_is_cut_off_goes_on_as_if_it_had_not_been(tmp_path, algorithm):
    checked = make_config(algorithm=algorithm, train={"epochs": 9}, **ALGORITHMS[algorithm])
    whole = asked(runs.SweepFolder(tmp_path / "whole"), checked, near)
    assert len(whole) == config.expected_trials(checked)
    cut = runs.SweepFolder(tmp_path / "cut")
    found = asked(cut, checked, near, stop_before=5)
    found += asked(cut, checked, near, stop_before=5)
    found += asked(cut, checked, near)
    assert found == whole


def test_a_grid_is_every_combination_once_in_order(tmp_path):
    checked = make_config(**ALGORITHMS["grid"])
    found = asked(runs.SweepFolder(tmp_path / "sweep"), checked)
    expected = list(config.combinations(config.space_of(checked)))
    assert [trial.values for trial in found] == expected


def test_a_grid_leaves_out_keys_whose_conditions_are_not_met(tmp_path):
    momentum, epsilon = "model.batch_norm.momentum", "model.batch_norm.epsilon"
    checked = make_config(
        space={momentum: [0.9, 0.99], epsilon: [1e-5, 1e-3], PLACEMENT: ["none", "before"]},
        conditions={
            momentum: {PLACEMENT: ["before"]},
            epsilon: {momentum: [0.9], PLACEMENT: ["before"]},
        },
    )
    found = [trial.values for trial in asked(runs.SweepFolder(tmp_path / "sweep"), checked)]
    assert found == list(config.combinations(config.space_of(checked)))
    assert len(found) == 4


def test_a_random_search_depends_on_the_seed_of_the_config_alone(tmp_path):
    arguments = {"algorithm": "random", **ALGORITHMS["random"]}
    first = make_config(**arguments)
    other = first.model_copy(update={"seed": 1})
    found = [
        [trial.values for trial in asked(runs.SweepFolder(tmp_path / name), checked)]
        for name, checked in (("a", first), ("b", first), ("c", other))
    ]
    assert found[0] == found[1] != found[2]
    assert len({json.dumps(values) for values in found[0]}) == 12


def test_searches_of_neighboring_seeds_share_no_trial():
    """keras-tuner draws trial n with the seed plus n."""
    checked = make_config(algorithm="random", **ALGORITHMS["random"])
    seeds = {
        new_oracle(checked.model_copy(update={"seed": seed}), None).seed for seed in range(200)
    }
    assert len(seeds) == 200
    assert min(abs(a - b) for a, b in itertools.combinations(seeds, 2)) > 100


def test_a_random_search_finds_all_of_a_small_space(tmp_path):
    rates = [0.01 * number for number in range(1, 61)]
    checked = make_config(algorithm="random", space={RATE: rates}, max_trials=60)
    assert len(asked(runs.SweepFolder(tmp_path / "sweep"), checked)) == 60


def test_a_run_that_was_lost_is_made_again(tmp_path):
    checked = make_config(space={RATE: [0.1, 0.5, 1.0]})
    folder = runs.SweepFolder(tmp_path / "sweep")
    sweep(checked, folder.path)
    before, lost = rows(folder), folder.run("learning_rate-0.5", 0)
    shutil.rmtree(lost.path)
    sweep(checked, folder.path, resume=True)
    assert rows(folder) == before


@pytest.mark.parametrize(
    "algorithm", [pytest.param("bayesian", marks=pytest.mark.slow), "hyperband"]
)
def test_a_search_comes_closer_to_what_is_good_although_some_trials_diverge(tmp_path, algorithm):
    arguments = {**ALGORITHMS[algorithm], "algorithm": algorithm}
    if algorithm == "bayesian":
        arguments["max_trials"] = 20
    checked = make_config(train={"epochs": 9}, **arguments)
    found = asked(runs.SweepFolder(tmp_path / "sweep"), checked, near)
    scores = [near(trial) for trial in found]
    assert min(scores) == -1e9, "no trial diverged: the test shows nothing"
    assert max(scores) > 0.9
    if algorithm == "bayesian":  # beyond its first, random points
        assert sum(score > 0.5 for score in scores[6:]) > len(scores[6:]) / 2


def test_bayesian_search_tries_no_combination_twice(tmp_path):
    space = {RATE: [0.01, 0.1, 0.2, 0.4], PLACEMENT: ["none", "before"]}
    checked = make_config(algorithm="bayesian", space=space, max_trials=8)
    found = asked(runs.SweepFolder(tmp_path / "sweep"), checked, near)
    names = [trial.name for trial in found]
    assert len(names) == len(set(names)) > 6


def test_hyperband_gives_the_best_more_epochs_from_where_they_were(tmp_path):
    checked = make_config(algorithm="hyperband", space=SPAN, train={"epochs": 9})
    found = asked(runs.SweepFolder(tmp_path / "sweep"), checked, near)
    later = [trial for trial in found if trial.epochs_before]
    assert {(trial.epochs_before, trial.epochs) for trial in later} == {(1, 3), (3, 9)}
    names = [trial.folder for trial in found]
    assert all(trial.folder_before in names[: names.index(trial.folder)] for trial in later)


@pytest.mark.parametrize("direction", ["max", "min"])
def test_divergence_is_worse_than_any_score_and_finite(direction):
    objective = Objective(name="loss", direction=direction)
    worse = min if direction == "max" else max
    measured = [trial_score([value, value], objective) for value in (-1e8, 0.0, 1e8)]
    once, twice = (trial_score([None, value], objective) for value in (0.5, None))
    assert worse([*measured, once]) == once
    assert worse([once, twice]) == twice
    assert abs(twice) == 1e9


@pytest.mark.parametrize(
    ("algorithm", "arguments"),
    [("random", {"max_trials": 2}), ("bayesian", {"max_trials": 4, "space": {RATE: SPAN[RATE]}})],
)
def test_each_algorithm_runs_to_its_end_on_real_runs(tmp_path, algorithm, arguments):
    checked = make_config(algorithm=algorithm, **arguments)
    summary = sweep(checked, tmp_path)
    assert summary["status"] == "completed"
    assert len(summary["trials"]) == arguments["max_trials"]
    for trial in summary["trials"]:
        assert runs.RunFolder(tmp_path / trial["runs"][0]["folder"]).has_ended()


@pytest.mark.slow
def test_a_hyperband_run_that_went_on_is_the_run_that_it_would_have_been_alone(tmp_path):
    checked = make_config(algorithm="hyperband", space=SPAN, train={"epochs": 3})
    summary = sweep(checked, tmp_path / "sweep")
    assert [trial["epochs"] for trial in summary["trials"]] == [1, 1, 1, 3, 3, 3]
    (last,) = (t for t in summary["trials"][3:] if t["values"] in _values(summary["trials"][:3]))
    run = runs.RunFolder(tmp_path / "sweep" / last["runs"][0]["folder"])
    assert [row["epoch"] for row in run.history()] == [1, 2, 3]
    alone = train(config.load_config(run.config_file), tmp_path / "alone")
    timeless = {"seconds": alone["final"]["seconds"]}
    assert alone["final"] == pytest.approx(run.summary()["final"] | timeless)
    assert alone["test"] == run.summary()["test"]
    assert alone["first_batch_loss"] == run.summary()["first_batch_loss"]


def _values(trials):
    return [trial["values"] for trial in trials]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A completed sweep over two rates, one of which diverges, and two placements."""
    folder = runs.SweepFolder(tmp_path_factory.mktemp("sweeps") / "finished")
    checked = make_config(space={RATE: [0.5, 1e5], PLACEMENT: ["none", "before"]}, seeds=[4, 2])
    return checked, folder, sweep(checked, folder.path, command="bnzoo tune it")


def test_every_execution_is_an_ordinary_run_with_its_seed(finished, tmp_path):
    checked, folder, summary = finished
    run = summary["trials"][0]["runs"][1]
    assert (run["seed"], run["status"]) == (2, "completed")
    made = runs.RunFolder(folder.path / run["folder"])
    assert made.config() == config.trial_config(checked, summary["trials"][0]["values"], 2)
    again = train(config.load_config(made.config_file), tmp_path / "again")
    assert again["test"] == made.summary()["test"]


def test_a_diverged_trial_is_a_result_and_the_sweep_goes_on(finished):
    _, folder, summary = finished
    statuses = {trial["values"][RATE]: trial["status"] for trial in summary["trials"]}
    assert statuses == {0.5: "completed", 1e5: "diverged"}
    assert summary["placements"]["none"]["diverged"] == 1
    found = {row[RATE]: (row["status"], row["score"]) for row in rows(folder)}
    assert found["100000.0"] == ("diverged", "-1000000000.0")
    states = read_trials(folder, folder.config())
    assert [state.score for state in states if state.trial.values[RATE] == 1e5] == [-1e9, -1e9]


def test_trials_csv_has_a_row_per_execution(finished):
    _, folder, _ = finished
    found = rows(folder)
    assert len(found) == 8
    assert list(found[0]) == [
        "trial", RATE, PLACEMENT, "seed", "score", "status", "epochs", "test_accuracy", "folder",
    ]  # fmt: skip
    assert [row["seed"] for row in found] == ["4", "2"] * 4
    assert found[0]["trial"] == "learning_rate 0.5, placement none"  # as it is called everywhere
    assert found[7]["trial"] == "learning_rate 100000, placement before"
    assert all((folder.path / row["folder"] / "config.yaml").exists() for row in found)


def test_best_yaml_is_an_ordinary_config_of_the_best_run(finished, tmp_path):
    _, folder, summary = finished
    best = config.load_config(folder.best_file)
    run = runs.RunFolder(folder.path / summary["best"]["folder"])
    assert best == run.config()
    assert run.path == folder.best_run().path
    scores = [one["score"] for t in summary["trials"] for one in t["runs"] if one["score"]]
    assert max(scores) in (one for one in summary["best"]["scores"]["values"])
    assert train(best, tmp_path / "best")["test"] == run.summary()["test"]


def test_a_sweep_folder_stands_for_its_best_run(finished):
    from bnzoo import load_model

    _, folder, summary = finished
    assert runs.usable_run(folder.path) == folder.path / summary["best"]["folder"]
    assert load_model(folder.path).count_params() > 0


def test_a_mistake_in_the_config_stops_the_search_at_once(tmp_path):
    # That many examples exist nowhere, which only loading the data can tell.
    checked = make_config(space={"data.batch_size": [100_000, 200_000, 256, 300_000]})
    with pytest.raises(InputError, match=r"data\.batch_size: 100000"):
        sweep(checked, tmp_path)
    folder = runs.SweepFolder(tmp_path)
    (state,) = read_trials(folder, checked)
    assert state.status == "RUNNING"
    assert folder.status() == "interrupted"


def test_an_unexpected_error_stops_the_search_at_once_and_is_not_swallowed(tmp_path):
    checked = make_config()
    folder = runs.SweepFolder(tmp_path)

    def run_trial(trial):
        raise ZeroDivisionError("so there")

    with pytest.raises(ZeroDivisionError, match="so there"):
        search(new_oracle(checked, folder), checked, run_trial)


@pytest.mark.parametrize("name", ["val_accuracy", "val_loss", "loss", "accuracy", "seconds"])
@pytest.mark.parametrize("direction", ["max", "min"])
def test_any_metric_of_the_history_can_be_the_objective(finished, name, direction):
    _, folder, summary = finished
    objective = Objective(name=name, direction=direction)
    run = runs.RunFolder(folder.path / summary["trials"][0]["runs"][0]["folder"])
    choose = max if direction == "max" else min
    assert run_score(run, objective) == choose(row[name] for row in run.history())


@pytest.mark.parametrize(("direction", "expected"), [("max", 0.9), ("min", 0.2)])
def test_a_run_counts_with_its_best_epoch_and_not_its_last(tmp_path, direction, expected):
    run = runs.RunFolder(tmp_path)
    file = RowFile(run.history_file, runs.HISTORY_COLUMNS, keep_epochs=0)
    for epoch, value in enumerate([0.5, 0.9, 0.2, 0.6], start=1):
        file.append({"epoch": epoch, "loss": 1.0, "val_accuracy": value, "seconds": 0.1})
    run.write_summary(run_summary())
    assert run_score(run, Objective(name="val_accuracy", direction=direction)) == expected


def test_what_is_to_be_small_is_searched_for_the_smallest(tmp_path):
    objective = {"name": "val_loss", "direction": "min"}
    summary = sweep(make_config(objective=objective, space={RATE: [0.01, 0.5, 1e5]}), tmp_path)
    scores = [trial["score"] for trial in summary["trials"]]
    assert scores[1] < scores[0] < scores[2] == 1e9
    assert summary["best"]["score"] == scores[1]
