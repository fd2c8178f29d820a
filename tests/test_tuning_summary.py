"""What a sweep's summary says of runs: which rates are stable, and runs without the objective."""

import json
from pathlib import Path

import pytest
from run_summaries import run_summary
from sweeps import PLACEMENT, RATE, make_config

from bnzoo import runs
from bnzoo.files import RowFile, write_atomically
from bnzoo.runs import HISTORY_COLUMNS
from bnzoo.tuning.results import write_results
from bnzoo.tuning.summary import summarize
from bnzoo.tuning.trials import read_trials

RATES, MOMENTUM = [0.01, 0.1, 1.0], "train.optimizer.momentum"
SPACE = {RATE: RATES, MOMENTUM: [0.0, 0.9]}
DIVERGED = None


def summed_up(folder, checked, trials, **facts):
    """Return the summary of trials given as (values, epochs or None, accuracy of each seed)."""
    sweep = runs.SweepFolder(folder)
    sweep.path.mkdir(exist_ok=True)
    lists = checked.tune.space
    saved = {}
    for number, (values, epochs, _) in enumerate(trials):
        found = {path: lists[path].index(value) for path, value in values.items()}
        found |= {"tuner/epochs": epochs} if epochs else {}
        saved[f"{number:04d}"] = {"values": found, "status": "COMPLETED", "score": 0.0}
    write_atomically(sweep.oracle_file, json.dumps({"ongoing_trials": {}, "trials": saved}))
    seeds = checked.tune.seeds_from(checked.seed)
    for state, (_, _, accuracies) in zip(read_trials(sweep, checked), trials, strict=True):
        for seed, accuracy in zip(seeds, accuracies, strict=True):
            write_run(sweep.run(state.trial.folder, seed), accuracy, checked, **facts)
    return summarize(sweep, checked, "completed", "small", "bnzoo tune small.yaml")


def write_run(run, accuracy, checked, **facts):
    run.path.mkdir(parents=True)
    has_validation = checked.data.validation != "none"
    metric = "val_accuracy" if has_validation else "accuracy"
    row = {"epoch": 1, "loss": 1.0, "accuracy": accuracy, "val_loss": 1.0, "seconds": 1.0}
    row |= {"val_accuracy": accuracy if has_validation else None, "learning_rate": 0.1}
    file = RowFile(run.path / "history.csv", HISTORY_COLUMNS, keep_epochs=0)
    file.append(row)
    test, best = {"loss": 1.0, "accuracy": accuracy}, {"metric": metric, "row": row}
    summary = run_summary(best=best, test=test, **facts)
    if accuracy is DIVERGED:
        where = {"epoch": 1, "step": 7}
        summary |= {
            "status": "diverged",
            "best": {"metric": metric, "row": None},
            "test": None,
            "diverged": where,
        }
    run.summary_file.write_text(json.dumps(summary))


def stable_rate(folder, checked, trials):
    (placement,) = summed_up(folder, checked, trials)["placements"].values()
    return placement["largest_stable_rate"]


def test_a_rate_with_which_another_trial_diverged_is_not_stable(tmp_path):
    trials = [
        ({RATE: 0.01, MOMENTUM: 0.0}, None, [0.90]),
        ({RATE: 0.01, MOMENTUM: 0.9}, None, [0.50]),
        ({RATE: 0.1, MOMENTUM: 0.0}, None, [0.95]),
        ({RATE: 0.1, MOMENTUM: 0.9}, None, [0.50]),  # far from the best, and no divergence
        ({RATE: 1.0, MOMENTUM: 0.0}, None, [0.96]),
        ({RATE: 1.0, MOMENTUM: 0.9}, None, [DIVERGED]),
    ]
    assert stable_rate(tmp_path, make_config(space=SPACE), trials) == 0.1


def test_a_stable_rate_is_near_the_best_on_every_seed(tmp_path):
    trials = [
        ({RATE: 0.01}, None, [0.96, 0.92]),
        ({RATE: 0.1}, None, [0.96, 0.96]),
        ({RATE: 1.0}, None, [0.99, 0.90]),
    ]
    checked = make_config(space={RATE: RATES}, executions_per_trial=2)
    assert stable_rate(tmp_path, checked, trials) == 0.1


def test_hyperbands_short_rounds_speak_only_against_a_rate(tmp_path):
    span = {RATE: [0.01, 0.1, 0.3, 1.0, 3.0], MOMENTUM: [0.0, 0.5, 0.9, 0.99]}
    checked = make_config(algorithm="hyperband", space=span, train={"epochs": 9})
    trials = [
        ({RATE: 1.0, MOMENTUM: 0.5}, 1, [0.96]),  # near the best, in one epoch
        ({RATE: 0.3, MOMENTUM: 0.5}, 1, [DIVERGED]),
        ({RATE: 0.3, MOMENTUM: 0.0}, 9, [0.97]),
        ({RATE: 0.1, MOMENTUM: 0.0}, 1, [0.20]),
        ({RATE: 0.1, MOMENTUM: 0.0}, 9, [0.95]),
    ]
    assert stable_rate(tmp_path, checked, trials) == 0.1


def test_one_rate_alone_is_neither_stable_nor_unstable(tmp_path):
    """It has been called the largest stable rate, or, after one seed of 69.7 %, no rate."""
    checked = make_config(space={RATE: [0.01, 0.1], PLACEMENT: ["none", "before"]})
    for number, accuracies in enumerate([[0.97], [0.697]]):
        trials = [({RATE: 0.1, PLACEMENT: "before"}, None, accuracies)]
        summary = summed_up(tmp_path / str(number), checked, trials)
        assert summary["placements"]["before"]["largest_stable_rate"] is None
        assert "stable" not in summary["verdict"].lower()
        assert "no rate" not in summary["verdict"]
        assert summary["verdict"].startswith("Best is learning_rate 0.1, placement before: ")


def compared(folder, before, none):
    """Return the verdict on two placements with one trial each, from the scores of their seeds."""
    space = {RATE: [0.1], PLACEMENT: ["none", "before"]}
    checked = make_config(space=space, executions_per_trial=len(none))
    trials = [
        ({RATE: 0.1, PLACEMENT: "none"}, None, none),
        ({RATE: 0.1, PLACEMENT: "before"}, None, before),
    ]
    return summed_up(folder, checked, trials)["verdict"]


def test_a_difference_that_the_seeds_leave_open_is_told_as_such(tmp_path):
    verdict = compared(tmp_path, [0.95, 0.91, 0.99], [0.90, 0.89, 0.88])
    assert (
        "Against the best of none: +6.0 points, higher in 3 of 3 seeds; 3 seeds do not" in verdict
    )
    assert "optimistic" not in verdict  # one trial each: nothing was chosen


def test_one_seed_settles_no_difference(tmp_path):
    verdict = compared(tmp_path, [0.95], [0.90])
    assert "+5.0 points with one seed, which settles nothing" in verdict
    assert verdict.endswith("One seed a trial: none of this is settled.")


def test_problems_of_batch_normalization_follow_the_best(tmp_path):
    trials = [({RATE: rate}, None, [0.95, 0.96]) for rate in RATES]
    checked = make_config(space={RATE: RATES}, executions_per_trial=2)
    found = [{"kind": "few_steps", "title": "", "line": "Too few steps."}]
    summary = summed_up(tmp_path, checked, trials, findings=found)
    assert summary["verdict"].splitlines()[1] == summary["note"]
    runs_of_it = 2 * len(RATES)
    assert summary["note"] == f"problem: Too few steps. (In {runs_of_it} of {runs_of_it} runs.)"


def test_the_summary_says_what_stable_means_and_how_the_best_was_chosen(tmp_path):
    trials = [({RATE: rate}, None, [0.95, 0.96]) for rate in RATES]
    checked = make_config(space={RATE: RATES}, executions_per_trial=2)
    summary = summed_up(tmp_path, checked, trials)
    assert (
        "largest stable learning rate, before: 1 (the largest tried)" in summary["verdict"].lower()
    )
    assert "\nStable: no trial with it diverged, and one was within 5 points" in summary["verdict"]
    assert max(map(len, summary["verdict"].splitlines())) <= 100
    assert summary["chosen_by"] == (
        "the highest validation accuracy at the best epoch, mean of the seeds 0 and 1"
    )


@pytest.fixture
def without_validation():
    """The config of a sweep whose runs lack the objective; `check` refuses it at the door."""
    checked = make_config(space={RATE: [0.01, 0.1], PLACEMENT: ["none"]})
    data = checked.data.model_copy(update={"validation": "none"})
    return checked.model_copy(update={"data": data})


def test_a_completed_run_without_the_objective_is_no_divergence(tmp_path, without_validation):
    trials = [({RATE: rate, PLACEMENT: "none"}, None, [0.9]) for rate in (0.01, 0.1)]
    summary = summed_up(tmp_path, without_validation, trials)
    assert [trial["status"] for trial in summary["trials"]] == ["unmeasured", "unmeasured"]
    assert [trial["score"] for trial in summary["trials"]] == [None, None]
    placement = summary["placements"]["none"]
    assert (placement["trials"], placement["diverged"], placement["best"]) == (2, 0, None)
    assert placement["largest_stable_rate"] is None
    assert summary["best"] is None
    assert summary["verdict"] == "No trial has a validation accuracy."


def test_the_paths_of_rate_and_placement_are_written_once():
    package = Path(runs.__file__).parents[1]
    for path in (RATE, PLACEMENT):
        homes = [file.name for file in package.rglob("*.py") if f'"{path}"' in file.read_text()]
        assert homes == ["tune.py"]


def test_its_sweep_has_a_table_and_a_report_all_the_same(tmp_path, without_validation):
    summed_up(tmp_path, without_validation, [({RATE: 0.01, PLACEMENT: "none"}, None, [0.9])])
    folder = runs.SweepFolder(tmp_path)
    write_results(folder, without_validation, "completed", "small", "bnzoo tune small.yaml")
    assert ",completed," in folder.trials_file.read_text()
    assert "diverged" not in folder.trials_file.read_text()
    assert "No trial has a validation accuracy." in folder.report_file.read_text()
