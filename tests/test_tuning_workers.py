"""A chief and its workers: real processes, and what happens when one of them is missing."""

import os
import signal
import socket
import time

import pytest
from processes import (
    LONG,
    children,
    finish,
    needs_proc,
    starter,
    stopped,
    variable,
    wait_for,
)
from sweeps import PLACEMENT, RATE, TREE, make_config, rows, sweep

from bnzoo import runs
from bnzoo.config import as_yaml
from bnzoo.errors import InputError
from bnzoo.tuning.sweep import tune, work
from bnzoo.tuning.trials import read_trials
from bnzoo.tuning.workers import Role, SweepWorkers, role_of
from bnzoo.workers import WorkerError
from bnzoo.workers.dividing import cores_of, gpus_of


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(as_yaml(TREE))
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start(config_file):
    """Start `bnzoo tune` as a user does, in a process of its own; none is left behind."""
    with starter() as run:

        def start(out, *arguments, role=None):
            variables = role.variables() if role else {}
            return run("tune", config_file, "--out", out, *arguments, **variables)

        yield start


def ids(process):
    return {variable(pid, "KERASTUNER_TUNER_ID"): pid for pid in children(process)}


def test_two_workers_end_where_one_process_does(start, tmp_path):
    folder = runs.SweepFolder(tmp_path / "sweep")
    printed = finish(start(folder.path, "--workers", "2"))
    lines = printed.splitlines()
    assert lines[0] == "Starting 2 workers ..."
    assert sorted(line[:9] for line in lines if line.startswith("trial ")) == [
        f"trial {number}/4" for number in (1, 2, 3, 4)
    ]
    assert "Best is learning_rate" in printed
    for name in ("worker-1", "worker-2"):
        log = (folder.logs / f"{name}.log").read_text()
        assert "Connected to the chief" in log
        assert "absl" not in log
    assert folder.report_file.exists()
    alone = runs.SweepFolder(tmp_path / "alone")
    sweep(make_config(), alone.path)
    assert rows(folder) == rows(alone)


def test_a_port_in_use_is_refused(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        role = Role("chief", f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(InputError, match="with a free port") as caught:
            tune(make_config(), tmp_path, chief=role)
    assert role.address in str(caught.value)


def test_a_worker_without_a_chief_says_so_in_time(tmp_path):
    role = Role("worker-7", f"127.0.0.1:{free_port()}")
    with pytest.raises(InputError, match="none has answered for 1 s") as caught:
        work(make_config(), tmp_path, role, wait=1)
    assert "worker-7" in str(caught.value)
    assert role.address in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_never_connects_is_named_in_time(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # the pool sets it for its process
    with (
        pytest.raises(InputError, match="worker-1: expected it to reach the chief within 0 s"),
        SweepWorkers(2, ["models"], 0, tmp_path, print) as pool,
    ):
        pool.poll()
    assert all(worker.process.returncode is not None for worker in pool.workers)


def test_a_worker_stops_and_tells_the_chief_when_its_trial_fails(tmp_path, monkeypatch):
    """Chief and worker in two threads of this process; the network between them is real."""
    import threading

    # No process of the chief's is there to end and say why.
    monkeypatch.setattr("bnzoo.tuning.search.EXIT_SECONDS", 0.5)
    role = Role("worker-1", f"127.0.0.1:{free_port()}")
    chief = Role("chief", role.address)
    checked = make_config(space={"data.batch_size": [100_000]})
    failed = []

    def be_chief():
        try:
            tune(checked, tmp_path, chief=chief, report=False)
        except WorkerError as error:
            failed.append(error)

    thread = threading.Thread(target=be_chief)
    thread.start()
    with pytest.raises(InputError, match=r"data\.batch_size: 100000"):
        work(checked, tmp_path, role, wait=LONG)
    thread.join(LONG)
    assert "Trial 1 failed on its worker" in str(failed[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"KERASTUNER_ORACLE_PORT": ""}, "KERASTUNER_ORACLE_PORT=''"),
        ({"KERASTUNER_TUNER_ID": ""}, "KERASTUNER_TUNER_ID=''"),
        (
            {"KERASTUNER_ORACLE_PORT": "http"},
            "a port from 1 to 65535, .* KERASTUNER_ORACLE_PORT='http'",
        ),
    ],
)
def test_variables_that_do_not_make_a_role_are_refused(change, message):
    variables = {**Role("worker-1", "10.0.0.1:8000").variables(), **change}
    with pytest.raises(InputError, match=message):
        role_of(variables)


def test_no_variables_mean_to_search_alone_and_all_a_role():
    assert role_of({}) is None
    role = Role("my-chief", "10.0.0.1:8000")
    assert role_of(role.variables()) == role
    assert role.is_chief
    assert not Role("worker-1", "10.0.0.1:8000").is_chief


def test_cores_are_divided_and_all_used(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 6}, raising=False)
    assert cores_of(2) == [{0, 2, 6}, {1, 3}]
    assert cores_of(7) == [{0}, {1}, {2}, {3}, {6}, {0}, {1}]


def test_gpus_are_divided_and_shared_only_where_there_are_too_few(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert gpus_of(2) == [{"CUDA_VISIBLE_DEVICES": "2"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    shared = gpus_of(3)
    assert [found["CUDA_VISIBLE_DEVICES"] for found in shared] == ["2", "5", "2"]
    assert all(found["TF_FORCE_GPU_ALLOW_GROWTH"] == "true" for found in shared)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpus_of(2) == [{}, {}]


def test_gpus_are_counted_by_their_driver(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_of(1) == [{}]
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho 'GPU 1: A (UUID: y)'\n")
    tool.chmod(0o755)
    assert gpus_of(2) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]


# --- long ones -----------------------------------------------------------------------------------


@needs_proc
@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_gets_its_trial_back(config_file, start, tmp_path):
    space = {RATE: [0.01, 0.5, 1.0], PLACEMENT: ["none", "before"]}
    tree = {**TREE, "tune": {**TREE["tune"], "space": space}}
    config_file.write_text(as_yaml(tree))
    folder, checked = runs.SweepFolder(tmp_path / "sweep"), make_config(space=space)
    process = start(folder.path, "--workers", "2")

    def under_way():
        return {state.worker: state.trial for state in read_trials(folder, checked) if state.worker}

    wait_for(lambda: {"worker-1", "worker-2"} <= set(under_way()), process)
    killed, trial = ids(process)["worker-1"], under_way()["worker-1"]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: ids(process).get("worker-1", killed) != killed, process)
    printed = finish(process)
    assert "worker-1 died (SIGKILL) and was started again." in printed
    log = (folder.logs / "worker-1.log").read_text()
    assert log.count("Connected to the chief") == 2
    assert f"{trial.name}, seed 0" in log.split("Connected to the chief")[2]
    alone = runs.SweepFolder(tmp_path / "alone")
    sweep(checked, alone.path)
    assert rows(folder) == rows(alone)


@needs_proc
@pytest.mark.slow
def test_a_worker_that_keeps_dying_ends_the_sweep(start, tmp_path):
    folder = runs.SweepFolder(tmp_path / "sweep")
    process = start(folder.path, "--workers", "2")
    killed = set()
    while process.poll() is None:
        pid = ids(process).get("worker-2")
        if pid and pid not in killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    assert process.returncode == 1
    assert len(killed) == 4
    assert "worker-2 died 4 times, the last time of SIGKILL." in process.communicate()[0]


@pytest.mark.slow
def test_a_chief_and_two_workers_that_were_started_by_hand_share_a_sweep(start, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    folder = runs.SweepFolder(tmp_path / "sweep")
    # In any order: workers wait for their chief.
    names = ("worker-a", "worker-b", "chief")
    members = {name: start(folder.path, role=Role(name, address)) for name in names}
    printed = {name: finish(process) for name, process in members.items()}
    assert f"Listening at {address}." in printed["chief"]
    assert "trial 4/4" in printed["chief"]
    assert "Best is learning_rate" in printed["chief"]
    for name in names[:2]:
        assert "Connected to the chief" in printed[name]
        assert printed[name].rstrip().endswith("The chief has no more trials.")
    alone = runs.SweepFolder(tmp_path / "alone")
    sweep(make_config(), alone.path)
    assert rows(folder) == rows(alone)


@pytest.mark.slow
def test_a_worker_with_another_config_is_refused_by_name(start, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    out = tmp_path / "sweep"
    chief = start(out, role=Role("chief", address))
    worker = start(out, "--set", "train.epochs=2", role=Role("worker-1", address))
    _, errors = worker.communicate(timeout=LONG)
    assert worker.returncode == 2
    assert "train.epochs: 1 there, 2 here" in errors
    chief.send_signal(signal.SIGINT)
    chief.communicate(timeout=LONG)
    assert chief.returncode == 130


@pytest.mark.slow
def test_ctrl_c_stops_chief_and_workers_and_says_how_to_go_on(start, tmp_path):
    folder = runs.SweepFolder(tmp_path / "sweep")
    process = start(folder.path, "--workers", "2", "--set", "train.epochs=5000")
    checked = make_config(train={"epochs": 5000})
    wait_for(lambda: len(read_trials(folder, checked)) == 2, process)
    started = list(children(process))
    assert len(started) == 2
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert "--set train.epochs=5000 --resume" in printed
    assert "Traceback" not in errors
    assert folder.status() == "interrupted"
    for pid in started:
        assert not os.path.exists(f"/proc/{pid}"), "a process is left"


@needs_proc
@pytest.mark.slow
def test_a_killed_chief_takes_its_workers_along_and_the_sweep_can_go_on(start, tmp_path):
    folder = runs.SweepFolder(tmp_path / "sweep")
    process = start(folder.path, "--workers", "2", "--set", "train.epochs=9")
    checked = make_config(train={"epochs": 9})
    wait_for(lambda: len(read_trials(folder, checked)) == 2, process)
    workers = list(children(process))
    process.kill()
    assert process.wait(LONG) == -signal.SIGKILL
    assert stopped(workers), "a worker is left"
    finish(start(folder.path, "--workers", "2", "--set", "train.epochs=9", "--resume"))
    alone = runs.SweepFolder(tmp_path / "alone")
    sweep(checked, alone.path)
    assert rows(folder) == rows(alone)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("signals", [["SIGINT", "SIGINT"], ["SIGHUP"], ["SIGKILL"]])
def test_however_a_sweep_is_ended_no_process_of_it_is_left(start, tmp_path, signals):
    folder = runs.SweepFolder(tmp_path / "sweep")
    process = start(folder.path, "--workers", "2", "--set", "train.epochs=5000")
    checked = make_config(train={"epochs": 5000})
    wait_for(lambda: len(read_trials(folder, checked)) == 2, process)
    started = list(children(process))
    for name in signals:
        process.send_signal(getattr(signal, name))
        time.sleep(0.3)
    process.wait(60)
    assert stopped(started), "a process is left"
    assert not folder.is_held()


@pytest.mark.slow
def test_a_mistake_that_a_worker_finds_leaves_a_whole_report(start, tmp_path):
    folder = runs.SweepFolder(tmp_path / "sweep")
    process = start(
        folder.path, "--workers", "2", "--set", "tune.space={data.batch_size: [256, 100000]}"
    )
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 2, errors
    assert "data.batch_size: 100000" in errors
    assert folder.status() == "interrupted"
    assert folder.report_file.exists()


@pytest.mark.slow
def test_a_chief_started_by_hand_says_that_a_worker_failed(start, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    out = tmp_path / "sweep"
    change = ("--set", "tune.space={data.batch_size: [100000]}")
    chief = start(out, *change, role=Role("chief", address))
    worker = start(out, *change, role=Role("worker-1", address))
    assert "data.batch_size: 100000" in worker.communicate(timeout=LONG)[1]
    printed, errors = chief.communicate(timeout=LONG)
    assert (worker.returncode, chief.returncode) == (2, 1)
    assert "failed on its worker, which says why." in printed
    assert "Traceback" not in errors


@pytest.mark.slow
def test_nothing_is_told_of_the_sweep_that_was_there_before(start, tmp_path):
    folder = runs.SweepFolder(tmp_path / "sweep")
    sweep(make_config(), folder.path)
    fewer = "tune.space={train.optimizer.learning_rate: [0.2]}"
    refused = start(folder.path, "--workers", "2", "--set", fewer)
    printed, errors = refused.communicate(timeout=LONG)
    assert refused.returncode == 2
    assert "holds a sweep of another space" in errors
    assert "trial" not in printed
    alone = start(folder.path, "--resume", "--set", fewer)
    assert "cannot be continued" in alone.communicate(timeout=LONG)[1]
    assert alone.returncode == 2
