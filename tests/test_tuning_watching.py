"""What is seen of a sweep from outside: lines for what has ended, one live table on a terminal."""

import io

import pytest
from rich.console import Console
from sweeps import PLACEMENT, RATE, make_config

from bnzoo import config, files, runs
from bnzoo.cli.sweep_table import SweepTable
from bnzoo.tuning.oracles import saved_oracle
from bnzoo.tuning.search import search
from bnzoo.tuning.watching import Watcher


class Stop(Exception):
    """The search is cut off here."""


@pytest.fixture
def half(tmp_path):
    """A sweep of four trials: two have ended, one of them diverged, and one is under way."""
    folder, checked = runs.SweepFolder(tmp_path), make_config(train={"epochs": 9})

    def run_trial(trial):
        if trial.number == "0002":
            raise Stop
        return -1e9 if trial.number == "0001" else 0.5

    with pytest.raises(Stop):
        search(saved_oracle(checked, folder), checked, run_trial)
    values = list(config.combinations(config.space_of(checked)))[2]
    run = folder.run(config.values_name(values), 0)
    run.path.mkdir(parents=True)
    file = files.RowFile(run.history_file, runs.HISTORY_COLUMNS, 0)
    for epoch in (1, 2, 3):
        file.append(dict.fromkeys(runs.HISTORY_COLUMNS, 0.5) | {"epoch": epoch})
    return folder, checked


def test_each_trial_that_has_ended_is_told_once(half):
    watcher = Watcher(*half)
    assert watcher.news() == [
        "trial 1/4  learning_rate 0.01, placement none  val_accuracy 0.5000",
        "trial 2/4  learning_rate 0.01, placement before  diverged",
    ]
    assert watcher.news() == []


def test_a_trial_under_way_says_who_runs_it_and_how_far_it_is(half):
    line = Watcher(*half).lines()[2]
    assert line.trial.values == {RATE: 1.0, PLACEMENT: "none"}
    assert (line.worker, line.progress) == ("alone", "seed 0, epoch 3/9")


def test_nothing_is_seen_of_a_sweep_that_is_not_there_or_corrupt(tmp_path):
    watcher = Watcher(runs.SweepFolder(tmp_path), make_config())
    assert watcher.lines() == []
    (tmp_path / "oracle.json").write_text("{")
    assert watcher.lines() == []


def test_on_a_terminal_there_is_one_table_of_trials(half):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with SweepTable(Watcher(*half), console) as table:
        table.look()
        drawn = screen.getvalue()
    assert "2 of 4 trials" in drawn
    assert "alone" in drawn
    assert "epoch 3/9" in drawn
    assert drawn.count("diverged") == 2  # its line, and its row


def test_elsewhere_there_are_plain_lines(half):
    screen = io.StringIO()
    with SweepTable(Watcher(*half), Console(file=screen, width=100)) as table:
        table.look()
    assert screen.getvalue().count("\n") == 2
