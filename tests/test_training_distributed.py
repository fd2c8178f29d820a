"""A run on several devices or in several processes ends where the same run in one process does."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import distributed_runs
import keras
import numpy as np
import processes
import pytest
import tensorflow as tf

import bnzoo
from bnzoo import config, runs
from bnzoo.data.shares import _shares
from bnzoo.errors import InputError
from bnzoo.training import train
from bnzoo.training.distribution import Replicas
from bnzoo.training.opening import opened
from bnzoo.workers.cluster import Cluster, cluster_for

RUN = Path(distributed_runs.__file__)
CLOSE = {"rtol": 0, "atol": 1e-4}  # float32 sums in another order, 30 steps long
TWO = {"worker": ["localhost:2222", "localhost:2223"]}


def weights(folder):
    return bnzoo.load_model(folder, compile=False).get_weights()


def assert_same_run(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)
    there, here = (runs.RunFolder(folder).history() for folder in (one, other))
    assert len(there) == len(here)
    for before, after in zip(there, here, strict=True):
        for name in set(before) - {"seconds"}:
            assert after[name] == pytest.approx(before[name], rel=1e-3, abs=1e-3), name


def run_script(*arguments):
    command = [sys.executable, str(RUN), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=processes.LONG)
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """Runs on two logical devices beside those of one process."""
    folder = tmp_path_factory.mktemp("mirrored")
    run_script("mirrored", folder)
    return folder


def largest_difference(one, other):
    return max(
        float(np.abs(a - b).max()) for a, b in zip(weights(one), weights(other), strict=True)
    )


# --- mirrored ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["three_conv", "dense"])
def test_two_replicas_end_where_one_process_does(mirrored, name):
    assert_same_run(mirrored / f"{name}-none", mirrored / f"{name}-mirrored")


def test_layers_are_synchronized_when_distributed_and_only_then(mirrored):
    for way, wanted in (("none", False), ("mirrored", True)):
        model = bnzoo.load_model(mirrored / f"three_conv-{way}")
        found = [one for one in model.layers if isinstance(one, bnzoo.BatchNormalization)]
        assert [one.synchronized for one in found] == [wanted] * 3


def test_a_distributed_run_resumes_bit_for_bit(mirrored):
    for a, b in zip(
        weights(mirrored / "dense-mirrored"), weights(mirrored / "resumed"), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_other_replicas_than_a_run_began_with_are_refused(mirrored):
    text = (mirrored / "refused.txt").read_text()
    assert "4 in 2 processes, got 2 in 1" in text
    assert "\n" not in text


def test_the_summary_says_how_many_replicas_there_were(mirrored):
    assert runs.RunFolder(mirrored / "dense-mirrored").summary()["replicas"] == {
        "processes": 1,
        "replicas": 2,
    }
    assert runs.RunFolder(mirrored / "dense-none").summary()["replicas"] is None


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    folder = tmp_path_factory.mktemp("more")
    run_script("more_mirrored", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet", "clipped", "recalibrated", "even-bnzoo", "uneven-bnzoo"]
)
def test_more_runs_on_two_replicas_end_where_one_process_does(more, name):
    assert_same_run(more / f"{name}-none", more / f"{name}-mirrored")


@pytest.mark.slow
def test_mixed_precision_and_backbones_train_on_replicas(more):
    for name in ("half", "backbone"):
        one, two = (runs.RunFolder(more / f"{name}-{way}") for way in ("none", "mirrored"))
        assert [one.status(), two.status()] == ["completed"] * 2
        losses = [folder.history()[-1]["loss"] for folder in (one, two)]
        assert losses[1] == pytest.approx(losses[0], rel=0.02)  # float16 sums; 52 layers


@pytest.mark.slow
def test_keras_own_synchronized_layer_side_by_side(more):
    found = {
        f"{size}-{norm}": largest_difference(
            more / f"{size}-{norm}-none", more / f"{size}-{norm}-mirrored"
        )
        for size in ("even", "uneven")
        for norm in ("keras", "bnzoo")
    }
    print(found)
    assert found["even-bnzoo"] < 1e-4
    assert found["uneven-bnzoo"] < 1e-4


@pytest.mark.slow
def test_layers_of_keras_in_ones_own_model_get_a_line(more):
    lines = (more / "lines.txt").read_text().splitlines()
    found = [line for line in lines if "bnzoo.replace_batch_norm(model, synchronized=True)" in line]
    assert len(found) == 1, "for Keras' layers, and not for bnzoo's"


# --- shares --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8])
def test_every_example_goes_to_one_replica_in_order(size):
    """Four replicas in two processes; fewer examples than replicas go to all, and count once."""
    batches = tf.data.Dataset.from_tensors((tf.range(size), tf.range(size)))
    found = [
        share
        for worker in range(2)
        for share in _shares(batches, tf.distribute.InputContext(2, worker, 4)).as_numpy_iterator()
    ]
    counted = [share for share in found if share.is_counted]
    assert len(found) == 4
    assert np.concatenate([share.batch[0] for share in counted]).tolist() == list(range(size))
    assert all(len(share.batch[0]) for share in found)
    if size >= 4:
        sizes = [len(share.batch[0]) for share in found]
        assert max(sizes) - min(sizes) <= 1
        np.testing.assert_allclose([share.weight for share in found], np.array(sizes) * 4 / size)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "received"),
    [
        (None, "got nothing"),
        ("{", "got {"),
        ("[]", "got []"),
        ('{"cluster": {}}', "got"),
        ('{"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}', "got"),
        (json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 2}}), "got"),
        (json.dumps({"cluster": TWO, "task": {"type": "worker", "index": -1}}), "got"),
        (json.dumps({"cluster": TWO, "task": {"index": 0}}), "got"),
        (json.dumps({"cluster": TWO, "task": {"type": "evaluator", "index": 0}}), "got"),
        (
            json.dumps({"cluster": {"worker": ["here"]}, "task": {"type": "worker", "index": 0}}),
            "got",
        ),
        (
            json.dumps(
                {"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}
            ),
            "got",
        ),
    ],
)
def test_a_cluster_that_is_none_is_one_line_before_tensorflow_waits(
    text, received, monkeypatch, call, tmp_path
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    (tmp_path / "c.yaml").write_text(json.dumps(distributed_runs.TREE))
    code, _, errors = call(
        *("train", tmp_path / "c.yaml", "--out", tmp_path / "run"),
        *("--set", "train.distribute=multi_worker"),
    )
    assert code == 2
    assert errors.count("\n") == 1
    assert "cluster.worker" in errors
    assert "task.index" in errors
    assert received in errors
    assert not (tmp_path / "run").exists()


def test_a_chief_comes_before_the_workers(monkeypatch):
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    for role, index, expected in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        task = {"cluster": cluster, "task": {"type": role, "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(task))
        assert cluster_for("multi_worker") == Cluster(expected, 3)
    assert cluster_for("mirrored").is_chief


def test_a_process_that_has_computed_cannot_join_others(monkeypatch, tmp_path):
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 0}})
    )
    tf.constant(0.0)
    with pytest.raises(InputError, match="multi_worker in a process that has computed nothing yet"):
        train(distributed_runs.config_of({"train.distribute": "multi_worker"}), tmp_path / "run")


def test_other_backends_have_no_replicas(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(InputError, match=r"expected none on jax, got mirrored.*KERAS_BACKEND"):
        Replicas("mirrored")


def test_a_compiled_step_cannot_be_distributed():
    with pytest.raises(
        InputError, match="expected auto or false with distribute: mirrored, got true"
    ):
        distributed_runs.config_of({"train.distribute": "mirrored", "train.jit_compile": True})


@pytest.mark.parametrize("section", ["study", "sweep"])
def test_runs_of_studies_and_sweeps_are_of_one_machine_each(section):
    changed = distributed_runs.config_of({"train.distribute": "multi_worker"})
    with pytest.raises(InputError, match=r"expected none or mirrored for .*got multi_worker"):
        getattr(changed, section)()


class Worker(Replicas):
    """Another worker than the chief, as far as folders are concerned."""

    is_chief = False


def test_a_worker_that_resumes_needs_the_chief_s_folder_and_leaves_it_alone(tmp_path):
    small, there = distributed_runs.config_of({}), runs.RunFolder(tmp_path / "run")
    with pytest.raises(InputError, match=r"the run folder that the chief resumes.*shared disk"):
        opened(there, small, True, Worker(), print).__enter__()
    with opened(there, small, False, Worker(), print) as own:
        assert own.path != there.path
        (own.path / "file").touch()
    assert not own.path.exists()
    assert not there.path.exists()


class Replica(Replicas):
    """Four, as far as data is concerned."""

    def __init__(self):
        super().__init__()
        self.strategy, self.count = object(), 4


def test_what_cannot_be_divided_is_refused():
    splits = bnzoo.data.load("digits", batch_size=3)
    batch = next(iter(splits.train))
    with pytest.raises(InputError, match="an example for each of 4 replicas, got 3"):
        Replica().check_data(splits, batch)


def test_runs_from_before_resume_with_the_new_default(tmp_path):
    """Their config.yaml has the old default of `synchronized`, false, and no `distribute`."""
    old = distributed_runs.config_of({"model.batch_norm.synchronized": False})
    tree = old.model_dump(mode="json")
    del tree["train"]["distribute"]
    (tmp_path / "config.yaml").write_text(json.dumps(tree))
    before = config.load_resolved(tmp_path / "config.yaml")
    assert not config.differences(before, distributed_runs.config_of({}))


# --- real processes ------------------------------------------------------------------------------

# Each starts TensorFlow, for ten seconds and more.
slow = pytest.mark.slow


@contextlib.contextmanager
def cluster():
    """Give what `TF_CONFIG` is for each of two workers, over loopback."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("localhost", 0))
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    yield [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(2)
    ]


def on_both(*commands):
    """Run `bnzoo train ...` as two workers; one command for both, or one for each."""
    with cluster() as tasks, processes.starter() as start:
        started = [
            start("train", *(commands * 2)[index], TF_CONFIG=task)
            for index, task in enumerate(tasks)
        ]
        return [(*one.communicate(timeout=processes.LONG), one.returncode) for one in started]


def write_config(folder, **changes):
    tree = distributed_runs.TREE | changes
    tree["train"] = tree["train"] | {"distribute": "multi_worker"}
    (folder / "c.yaml").write_text(json.dumps(tree))
    return folder / "c.yaml"


@slow
@pytest.mark.parametrize("model", ["three_conv", "resnet"])
def test_two_processes_end_where_one_does(model, tmp_path):
    """Also their history, and all is shown and written by the chief alone."""
    changes = {} if model == "three_conv" else distributed_runs.RESNET
    path = write_config(tmp_path, **changes)
    (chief, errors, code), (other, other_errors, other_code) = on_both(
        (path, "--out", tmp_path / "two")
    )
    assert (code, other_code) == (0, 0), (errors, other_errors)
    assert errors == other_errors == ""
    assert "2 replicas in 2 processes" in chief
    assert chief.count("val_loss") == 2
    assert len(other.splitlines()) == 2
    assert not (tmp_path / "two" / ".lock").exists()
    train(distributed_runs.config_of(changes), tmp_path / "one")
    assert_same_run(tmp_path / "one", tmp_path / "two")
    print(largest_difference(tmp_path / "one", tmp_path / "two"))


@slow
def test_two_processes_resume_bit_for_bit_and_end_alike(tmp_path):
    path = write_config(tmp_path, model={"name": "dense", "units": [8]})
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    settings = ("--set", "train.deterministic=true", "--set", "train.recalibrate=64")
    assert [code for *_, code in on_both((path, *settings, "--out", whole))] == [0, 0]
    with cluster() as tasks, processes.starter() as start:
        started = [
            start("train", path, *settings, "--out", parted, TF_CONFIG=task) for task in tasks
        ]
        checkpoint = runs.RunFolder(parted).checkpoint(1)
        processes.wait_for(checkpoint.exists)
        for one in started:
            one.kill()
            one.communicate()
    ended = on_both((path, *settings, "--out", parted, "--resume"))
    assert [code for *_, code in ended] == [0, 0], ended
    for a, b in zip(weights(whole), weights(parted), strict=True):
        np.testing.assert_array_equal(a, b)
    again = on_both((path, *settings, "--out", parted))  # a mistake that the chief alone can see
    assert [code for *_, code in again] == [2, 2], again
    assert all("already holds a run" in errors for _, errors, _ in again)


@slow
def test_a_mistake_of_one_worker_ends_all_alike(tmp_path):
    path = write_config(tmp_path)
    out = ("--out", tmp_path / "run")
    others = on_both((path, *out), (path, "--set", "seed=4", *out))
    assert [code for *_, code in others] == [2, 2], others
    assert all("expected the same on all workers" in errors for _, errors, _ in others)
    assert not (tmp_path / "run").exists()
    rates = ("--set", "train.optimizer.learning_rate=1e8")
    diverged = on_both((path, *rates, *out))
    assert [code for *_, code in diverged] == [1, 1], diverged
    assert "diverged" in diverged[1][0]


@slow
def test_the_two_processes_of_the_page_run(tmp_path):
    page = (RUN.parents[1] / "bnzoo/training/README.md").read_text()
    block = next(one for one in re.findall("```sh\n(.*?)```", page, re.DOTALL) if "cluster=" in one)
    with cluster() as tasks:
        ports = [one.rpartition(":")[2] for one in json.loads(tasks[0])["cluster"]["worker"]]
    script = block.replace("2222", ports[0]).replace("2223", ports[1])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert runs.RunFolder(tmp_path / "runs/mine").summary()["replicas"]["processes"] == 2


@slow
def test_moving_statistics_are_alike_on_both_workers(tmp_path):
    """Keras' own synchronized layer is printed beside ours."""
    (tmp_path / "models.py").write_text(distributed_runs.OWN)
    for norm in ("bnzoo", "keras"):
        with cluster() as tasks:
            command = [sys.executable, str(RUN), "worker", str(tmp_path), norm]
            started = [
                subprocess.Popen(command, env={**os.environ, "TF_CONFIG": task}) for task in tasks
            ]
            assert [one.wait(timeout=processes.LONG) for one in started] == [0, 0]
        first, second = (np.load(tmp_path / f"{norm}-{index}.npz") for index in range(2))
        apart = max(float(np.abs(first[name] - second[name]).max()) for name in first.files)
        print(norm, apart)
        assert norm == "keras" or apart == 0
