"""A study of several processes: the same results, and what happens when one of them is missing."""

import contextlib
import json
import os
import signal
import types

import pytest
import sweeps
from processes import LONG, children, finish, needs_proc, starter, stopped, wait_for
from run_summaries import run_summary

from bnzoo import config, runs
from bnzoo.errors import InputError
from bnzoo.studies import compare
from bnzoo.studies import study as study_module
from bnzoo.studies.running import join, train_all

TREE = {
    **{key: section for key, section in sweeps.TREE.items() if key != "tune"},
    "compare": {
        "baseline": {"model.placement": "none"},
        "variants": {"before": {"model.placement": "before"}},
        "seeds": [0, 1],
    },
}
LABELS = ["baseline seed 0", "before seed 0", "baseline seed 1", "before seed 1"]
BY_MACHINE = ("seconds", "seconds_per_epoch", "machine", "origins", "command", "name")


def make_config(**train):
    return config.validate({**TREE, "train": {**TREE["train"], **train}}, source="test")


@pytest.fixture
def start(tmp_path):
    """Start `bnzoo compare` as a user does, in a process of its own; none is left behind."""
    path = tmp_path / "small.yaml"
    path.write_text(config.as_yaml(TREE))
    with starter() as run:
        yield lambda out, *arguments: run("compare", path, "--out", out, *arguments)


def alone(out, **train):
    """Run the same study in this process, and return its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "measure_seconds", lambda config: (1.0, 1.0))
        compare(make_config(**train), out, write_report=lambda *report: None)
    return runs.StudyFolder(out)


def files(folder):
    """Return what lies in the folders of a study's runs."""
    found = folder.runs.rglob("*")
    return sorted(path.relative_to(folder.path).as_posix() for path in found)


def numbers(found):
    """Return a study's summary without what differs from time to time and from place to place."""
    if isinstance(found, dict):
        return {key: numbers(value) for key, value in found.items() if key not in BY_MACHINE}
    return [numbers(one) for one in found] if isinstance(found, list) else found


def assert_same(folder, other):
    assert folder.status() == "completed"
    assert json.dumps(numbers(folder.summary())) == json.dumps(numbers(other.summary()))
    assert files(folder) == files(other)


def has_epochs(folder, variant, seed, count):
    return lambda: len(folder.run(variant, seed).history()) >= count


def test_two_workers_end_where_one_process_does(start, tmp_path):
    folder = runs.StudyFolder(tmp_path / "study")
    printed = finish(start(folder.path, "--workers", "2"))
    lines = printed.splitlines()
    assert lines[0] == "Starting 2 workers ..."
    ended = [line.partition("  test accuracy ") for line in lines if "test accuracy 0." in line]
    assert sorted(found[0] for found in ended) == sorted(
        f"run {position}/4 {label}" for position, label in enumerate(LABELS, 1)
    )
    assert folder.report_file.exists()
    assert f"  report         {folder.report_file}" in lines
    for name in ("worker-1", "worker-2"):
        log = (folder.logs / f"{name}.log").read_text()
        assert f"Joined the study in {folder.path}." in log
        assert "All runs of the study have ended." in log
    assert_same(folder, alone(tmp_path / "alone"))
    assert "--join" not in folder.summary()["command"]


def test_no_more_workers_are_started_than_there_are_runs_to_make(call, tmp_path, monkeypatch):
    counts = []

    class Pool:
        def __init__(self, count, *others):
            counts.append(count)
            raise InputError("enough")

    monkeypatch.setattr("bnzoo.cli.comparing.WorkerPool", Pool)
    path = tmp_path / "small.yaml"
    path.write_text(config.as_yaml(TREE))
    folder = runs.StudyFolder(tmp_path / "study")
    arguments = ("compare", path, "--out", folder.path, "--workers", "9")
    assert call(*arguments)[0] == 2
    for seed in (0, 1):
        for variant in ("baseline", "before")[: 2 - seed]:
            folder.run(variant, seed).path.mkdir(parents=True)
            folder.run(variant, seed).write_summary(run_summary())
    folder.claim(make_config())
    folder.run("baseline", 1).summary_file.unlink()
    assert call(*arguments, "--resume")[0] == 2
    assert counts == [4, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "greater than or equal to 1"),
        (["--workers", "two"], "--workers"),
        (["--join", "--resume"], "at most one of --join and --resume"),
        (["--join", "--wait", "1"], "a study that another process is at work on, and there has"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(call, tmp_path, arguments, message):
    path, out = tmp_path / "small.yaml", tmp_path / "study"
    path.write_text(config.as_yaml(TREE))
    code, _, errors = call("compare", path, "--out", out, *arguments)
    assert code == 2
    assert message in " ".join(errors.replace("│", " ").split())
    assert "Traceback" not in errors
    assert not out.exists()


def test_who_joins_another_config_is_told_what_differs(tmp_path):
    folder = runs.StudyFolder(tmp_path)
    folder.claim(make_config())
    with folder.held(), pytest.raises(InputError, match=r"train\.epochs: 1 there, 3 here"):
        join(make_config(epochs=3), tmp_path, wait=1)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_study_that_nobody_holds_is_not_gone_on_with(tmp_path):
    """Ctrl-C where it was opened stops it everywhere, at the next run."""
    runs.StudyFolder(tmp_path).claim(make_config())
    with pytest.raises(InputError, match=r"there has been none for 0\.1 s.*--join.*--resume"):
        join(make_config(), tmp_path, wait=0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def train_two(folder, begin=lambda label: None):
    """Train the runs of one seed, and return the labels of those that were begun."""
    begun = []

    def begin_run(position, total, label):
        begun.append(label)
        begin(label)

    train_all(folder.planned(make_config())[:2], [], lambda line: None, begin_run)
    assert all(folder.run(variant, 0).has_ended() for variant in ("baseline", "before"))
    return begun


def test_a_run_that_another_process_holds_is_waited_for_and_taken_up(tmp_path, monkeypatch):
    folder, holding = runs.StudyFolder(tmp_path), contextlib.ExitStack()
    holding.enter_context(folder.run("baseline", 0).held())
    # The other process dies while this one has nothing else to do.
    waiting = types.SimpleNamespace(sleep=lambda seconds: holding.close())
    monkeypatch.setattr("bnzoo.studies.running.time", waiting)
    assert train_two(folder) == ["before seed 0", "baseline seed 0"]


def test_a_run_that_another_process_gets_hold_of_first_is_left_to_it(tmp_path):
    """Both have seen that it is free."""
    folder, holding = runs.StudyFolder(tmp_path), contextlib.ExitStack()
    others = iter([folder.run("baseline", 0).held()])

    def begin(label):
        holding.close()
        for other in others:  # once
            holding.enter_context(other)

    assert train_two(folder, begin) == ["baseline seed 0", "before seed 0", "baseline seed 0"]


def test_to_look_whether_a_run_is_held_leaves_nothing(tmp_path):
    """Others look all the time, also at locks that killed processes have left."""
    folder = runs.RunFolder(tmp_path)
    (tmp_path / ".lock").touch()
    assert not folder.is_held()
    assert list(tmp_path.iterdir()) == []


# --- long ones -----------------------------------------------------------------------------------


@needs_proc
@pytest.mark.slow
def test_a_killed_worker_is_said_and_its_run_goes_on_with_another_or_itself(start, tmp_path):
    folder = runs.StudyFolder(tmp_path / "study")
    process = start(folder.path, "--workers", "2", "--set", "train.epochs=40")
    wait_for(has_epochs(folder, "baseline", 0, 5), process)
    killed = next(iter(children(process)))
    os.kill(killed, signal.SIGKILL)
    printed = finish(process)
    assert "worker-1 died (SIGKILL) and was started again." in printed
    logs = [(folder.logs / f"worker-{number}.log").read_text() for number in (1, 2)]
    assert sum(log.count("Resuming after epoch") for log in logs) == 1
    assert_same(folder, alone(tmp_path / "alone", epochs=40))


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("signals", [["SIGINT"], ["SIGKILL"]])
def test_however_a_study_is_ended_no_process_is_left_and_it_goes_on(start, tmp_path, signals):
    folder = runs.StudyFolder(tmp_path / "study")
    process = start(folder.path, "--workers", "2", "--set", "train.epochs=60")
    wait_for(has_epochs(folder, "before", 0, 5), process)
    workers = list(children(process))
    assert len(workers) == 2
    for name in signals:
        process.send_signal(getattr(signal, name))
    printed, errors = process.communicate(timeout=LONG)
    assert stopped(workers), "a worker is left"
    assert not folder.is_held()
    if signals == ["SIGINT"]:
        assert process.returncode == 130
        assert "--set train.epochs=60 --resume" in printed
        assert "bnzoo compare: interrupted." in errors
        assert folder.status() == "interrupted"
        assert folder.run("before", 0).status() == "interrupted"
    assert "Traceback" not in errors
    finish(start(folder.path, "--workers", "2", "--set", "train.epochs=60", "--resume"))
    assert_same(folder, alone(tmp_path / "alone", epochs=60))


@pytest.mark.slow
def test_two_machines_share_a_study_on_one_disk(start, tmp_path):
    """Two commands in any order, one with workers of its own; who joins waits for the other."""
    folder = runs.StudyFolder(tmp_path / "study")
    joined = start(folder.path, "--join", "--workers", "2", "--set", "train.epochs=30")
    opened = start(folder.path, "--set", "train.epochs=30")
    printed = finish(joined), finish(opened)
    assert "All runs of the study have ended." in printed[0]
    assert f"  report         {folder.report_file}" in printed[1]
    begun = [line for line in printed[1].splitlines() if line.startswith("run ")]
    assert 1 <= len(begun) < 4, "each took some of the runs"
    assert_same(folder, alone(tmp_path / "alone", epochs=30))


@pytest.mark.slow
def test_a_mistake_that_a_worker_finds_ends_the_study_with_its_message(start, tmp_path):
    folder = runs.StudyFolder(tmp_path / "study")
    variant = "compare.variants.large={data.batch_size: 100000}"
    process = start(folder.path, "--workers", "2", "--set", variant)
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 2
    assert "data.batch_size: 100000" in errors
    assert "Traceback" not in errors
    assert folder.status() == "interrupted"
