"""What is seen of a sweep from outside: lines for what has ended, one live table on a terminal."""

import io

import pytest
from rich.console import Console
from sweeps import PLACEMENT, RATE, make_config

from bnzoo import config, files, runs
from bnzoo.cli.sweep_table import SweepTable
from bnzoo.tuning.oracles import saved_oracle
from bnzoo.tuning.search import search
from bnzoo.tuning.trials import read_trials


class Stop(Exception):
    """The search is cut off here."""


@pytest.fixture
def half(tmp_path):
    """A sweep of four trials: two have ended, one of them diverged, and one is under way."""
    folder, checked = runs.SweepFolder(tmp_path), make_config(train={"epochs": 9})

    def run_trial(trial):
        if trial.number == 2:
            raise Stop
        return -1e9 if trial.number == 1 else 0.5

    with pytest.raises(Stop):
        search(saved_oracle(checked, folder), checked, run_trial)
    values = list(config.combinations(config.space_of(checked)))[2]
    run = folder.run(config.values_name(values), 0)
    run.path.mkdir(parents=True)
    file = files.RowFile(run.history_file, runs.HISTORY_COLUMNS, 0)
    for epoch in (1, 2, 3):
        file.append(dict.fromkeys(runs.HISTORY_COLUMNS, 0.5) | {"epoch": epoch})
    return folder, checked


def drawn(half, **options):
    """Return what the table has drawn after it was polled twice."""
    screen = io.StringIO()
    with SweepTable(*half, Console(file=screen, width=100, **options)) as table:
        table.poll()
        table.poll()
        return screen.getvalue()


def test_elsewhere_there_is_one_plain_line_for_each_trial_that_has_ended(half):
    assert drawn(half).splitlines() == [
        "trial 1/4  learning_rate 0.01, placement none  val_accuracy 0.5000",
        "trial 2/4  learning_rate 0.01, placement before  diverged",
    ]


def test_a_trial_under_way_says_who_runs_it_and_how_far_it_is(half):
    state = read_trials(*half)[2]
    assert state.trial.values == {RATE: 1.0, PLACEMENT: "none"}
    assert (state.worker, state.progress(*half)) == ("alone", "seed 0, epoch 3/9")


def test_nothing_is_seen_of_a_sweep_that_is_not_there(tmp_path):
    assert read_trials(runs.SweepFolder(tmp_path), make_config()) == []


def test_on_a_terminal_there_is_one_table_of_trials(half):
    screen = drawn(half, force_terminal=True, color_system=None)
    assert "2 of 4 trials" in screen
    assert "learning_rate 1, placement none" in screen
    assert "alone" in screen
    assert "epoch 3/9" in screen
    assert screen.count("diverged") == 3  # its line once, and its row twice
