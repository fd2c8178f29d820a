"""Faults of disks, people and systems: one line, nothing complete lost, and --resume works."""

import json
import shutil
import signal
import tempfile
import zipfile

import filelock
import numpy as np
import pytest
import watching
from data_files import write_npz
from processes import LONG, starter, wait_for
from test_resume import rows, run
from watching import StopIn

from bnzoo import config, runs
from bnzoo.config import as_yaml
from bnzoo.errors import InputError
from bnzoo.files import read_rows
from bnzoo.runs import checkpoint
from bnzoo.studies.watching import watch_of
from bnzoo.training import train

TREE = {
    "data": {"name": "digits", "validation": 0.2, "batch_size": 512},
    "model": {"name": "dense", "units": [4]},
    "train": {
        "epochs": 4,
        "deterministic": True,
        "optimizer": {"name": "adam"},
        "follow_weights": [{"layer": "logits", "weight": "kernel", "index": [0, 3]}],
        "tensorboard": False,
        "jit_compile": False,
    },
}
DAMAGE = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "overwritten": lambda path: path.write_bytes(bytes(range(256))),
    "gone": lambda path: path.unlink(),
}
CARRIED = ["config.yaml", "data.json", "history.csv", "weights_path.csv", "first_loss.json"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was broken off in its fourth epoch, and the same run undisturbed."""
    place, checked = tmp_path_factory.mktemp("faults"), config.validate(TREE, source="test")
    run(checked, place / "whole")
    run(checked, place / "stopped", stop_in=4)
    return checked, place


def copied(stopped, tmp_path, name="stopped"):
    checked, place = stopped
    return checked, runs.RunFolder(shutil.copytree(place / name, tmp_path / "run"))


def assert_resumes(checked, folder, whole, lines=None):
    """Resume a run, and compare it with the undisturbed one."""
    lines = [] if lines is None else lines
    summary = run(checked, folder.path, resume=True, announce=lines.append)
    assert summary["status"] == "completed"
    assert rows(folder.path) == rows(whole)
    assert folder.weights_path_file.read_text() == (whole / "weights_path.csv").read_text()
    assert summary["test"] == runs.RunFolder(whole).summary()["test"]


@pytest.mark.parametrize("damage", ["cut short", "overwritten"])
def test_where_the_newest_checkpoint_is_damaged_the_one_before_is_used(stopped, tmp_path, damage):
    checked, folder = copied(stopped, tmp_path)
    DAMAGE[damage](folder.checkpoint(3))
    lines = []
    assert_resumes(checked, folder, stopped[1] / "whole", lines)
    assert lines[0] == f"{folder.checkpoint(3)} is damaged; what was saved before it is used."
    assert "Resuming after epoch 2." in lines


def test_where_each_checkpoint_is_damaged_nothing_is_lost_and_a_line_says_so(stopped, tmp_path):
    checked, folder = copied(stopped, tmp_path)
    kept = {epoch: folder.checkpoint(epoch).read_bytes() for epoch in (2, 3)}
    for epoch in kept:
        DAMAGE["cut short"](folder.checkpoint(epoch))
    with pytest.raises(InputError, match=r"history\.csv with 3 epochs and in checkpoint/ none"):
        folder.resume(checked)
    assert len(folder.history()) == 3
    folder.checkpoint(3).write_bytes(kept[3])
    folder.resume(checked)


def test_a_checkpoint_of_an_older_version_is_resumed_and_of_a_newer_one_refused(
    stopped, tmp_path, monkeypatch
):
    checked, folder = copied(stopped, tmp_path)
    with monkeypatch.context() as newer:
        newer.setattr(checkpoint, "FORMAT", checkpoint.FORMAT - 1)
        with pytest.raises(InputError) as caught:
            folder.resume(checked)
    assert "expected a checkpoint of format 0 or older, got 1" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    for epoch in (2, 3):  # as before there was a format: the model alone
        file = folder.checkpoint(epoch)
        with zipfile.ZipFile(file) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                if name != "bnzoo.json":
                    archive.writestr(name, content)
    assert_resumes(checked, folder, stopped[1] / "whole")  # a model without dropout


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_again_as_the_checkpoint_has_it(stopped, tmp_path, damage):
    """Two of three can come from one fault of a disk: all of them at once."""
    checked, folder = copied(stopped, tmp_path)
    files = [
        (folder.checkpoints if name == "first_loss.json" else folder.path) / name
        for name in CARRIED
    ]
    before = {path: path.read_text() for path in files}
    for path in files:
        DAMAGE[damage](path)
    lines = []
    folder.resume(checked, lines.append)
    assert {path: path.read_text() for path in files} == before
    assert {line.partition(" ")[0] for line in lines} == {str(path) for path in files}
    assert all("as the last checkpoint has it" in line for line in lines)


def test_a_run_with_damaged_files_ends_as_an_undisturbed_one(stopped, tmp_path):
    checked, folder = copied(stopped, tmp_path)
    for path in (folder.history_file, folder.weights_path_file, folder.first_loss_file):
        DAMAGE["overwritten"](path)
    assert_resumes(checked, folder, stopped[1] / "whole")


@pytest.mark.parametrize("name", ["history.csv", "weights_path.csv", "data.json", "config.yaml"])
def test_without_a_checkpoint_a_damaged_file_is_named_in_one_line(stopped, tmp_path, name):
    checked, folder = copied(stopped, tmp_path, "whole")
    path = folder.path / name
    path.write_bytes(bytes(range(256)))
    read = (lambda: read_rows(path)) if path.suffix == ".csv" else lambda: folder.resume(checked)
    with pytest.raises(InputError) as caught:
        read()
    assert len(str(caught.value).splitlines()) == 1
    assert name in str(caught.value)
    assert folder.model_file.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "\x00"])
def test_a_damaged_summary_is_measured_again_from_the_trained_model(stopped, tmp_path, text):
    checked, folder = copied(stopped, tmp_path, "whole")
    before = folder.summary()
    folder.summary_file.write_text(text)
    with pytest.raises(InputError, match="expected the summary of a run that ended"):
        folder.summary()
    assert folder.last_checkpoint() == (4, folder.model_file)
    if text == "{":  # once is enough
        again = run(checked, folder.path, resume=True)
        assert {**again, "first_batch_loss": before["first_batch_loss"]} == before


def test_what_a_study_watched_is_mended_too(tmp_path):
    study = {"name": "activation_shift", "every": 1, "from_step": 0, "examples": 64}
    watched = watching.watching_config(study)
    planned = runs.StudyFolder(tmp_path).planned(watched)[0]
    arguments = {"watch": watch_of(watched)}
    run(planned.config, tmp_path / "whole", **arguments)
    with pytest.raises(KeyboardInterrupt):
        train(planned.config, tmp_path / "run", callbacks=[StopIn(2)], **arguments)
    folder = runs.RunFolder(tmp_path / "run")
    DAMAGE["cut short"](folder.watched_file)
    run(planned.config, folder.path, resume=True, **arguments)
    assert folder.watched_file.read_text() == (tmp_path / "whole/watched.csv").read_text()


def test_a_data_set_that_is_gone_is_named_and_the_run_goes_on_when_it_is_back(call, tmp_path):
    file = write_npz(tmp_path / "mine.npz")
    tree = {**TREE, "data": {"name": f"npz:{file}", "batch_size": 2, "validation": "none"}}
    tree["train"] = {**TREE["train"], "follow_weights": [], "epochs": 2}
    config_file = tmp_path / "run.yaml"
    config_file.write_text(as_yaml(tree))
    run(config.load_config(config_file), tmp_path / "run", stop_in=2)
    file.rename(tmp_path / "away")
    arguments = ["train", config_file, "--out", tmp_path / "run", "--resume"]
    code, _, errors = call(*arguments)
    assert code == 2
    assert len(errors.splitlines()) == 1
    assert str(file) in errors
    (tmp_path / "away").rename(file)
    code, printed, _ = call(*arguments)
    assert (code, "Resuming after epoch 1." in printed) == (0, True)


def test_a_second_process_in_a_run_folder_is_told_so_and_disturbs_nothing(call, stopped, tmp_path):
    checked, folder = copied(stopped, tmp_path)
    config_file = tmp_path / "run.yaml"
    config_file.write_text(as_yaml(TREE))
    arguments = ["train", config_file, "--out", folder.path, "--resume"]
    with filelock.FileLock(folder.path / ".lock"):
        code, _, errors = call(*arguments)
    assert code == 2
    assert "another process is at work in this folder" in errors
    assert len(errors.splitlines()) == 1
    folder.resume(checked)


def test_a_folder_that_cannot_be_written_is_one_clear_line(call, stopped, tmp_path, monkeypatch):
    """As a disk that is mounted read-only refuses it, also to root."""
    _, folder = copied(stopped, tmp_path)
    config_file = tmp_path / "run.yaml"
    config_file.write_text(as_yaml(TREE))

    def refuse(*arguments, **named):
        raise OSError(30, "Read-only file system")

    arguments = ["train", config_file, "--out", folder.path, "--resume"]
    with monkeypatch.context() as read_only:
        read_only.setattr(tempfile, "TemporaryFile", refuse)
        code, _, errors = call(*arguments)
    assert code == 2
    assert "expected a folder that can be written, got: Read-only file system" in errors
    assert len(errors.splitlines()) == 1
    assert len(folder.history()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGINT] * 2, [signal.SIGTERM] * 2])
def test_a_run_that_is_asked_to_stop_once_or_twice_can_be_resumed(tmp_path, numbers):
    config_file, folder = tmp_path / "run.yaml", runs.RunFolder(tmp_path / "run")
    config_file.write_text(as_yaml({**TREE, "train": {**TREE["train"], "epochs": 3000}}))
    with starter() as start:
        process = start("train", config_file, "--out", folder.path)
        wait_for(lambda: len(folder.history()) > 2, process)
        for number in numbers:
            process.send_signal(number)
        _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "bnzoo train: interrupted."
    found = folder.last_checkpoint()
    assert found
    folder.resume(config.load_config(config_file))
    assert np.isfinite(json.loads(folder.first_loss_file.read_text()))
