"""The run folder: what it refuses, and that nothing in it is ever half written."""

import json
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from bnzoo import config, files, runs
from bnzoo.errors import InputError


def make_config(**train):
    return config.validate(
        {"data": {"name": "digits"}, "model": {"name": "dense"}, "train": train}, source="test"
    )


def test_a_new_folder_is_made_and_claimed(tmp_path):
    folder = runs.RunFolder(tmp_path / "deep" / "run")
    folder.start(make_config())
    folder.claim(make_config())
    assert folder.config() == make_config()
    assert folder.status() is None


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("mine")
    for path in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(InputError, match="expected a folder, got a file"):
            runs.RunFolder(path).start(make_config())
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; see the next test")
def test_an_output_folder_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match="expected a folder that can be written"):
        runs.RunFolder(tmp_path / "run").start(make_config())


def test_an_output_folder_that_cannot_be_written_is_refused():
    # Holds for root too: the kernel's own folder takes no new entries from anyone.
    if not os.path.isdir("/proc"):
        pytest.skip("needs a folder that even root cannot write, such as /proc")
    with pytest.raises(InputError, match="expected a folder that can be written"):
        runs.RunFolder("/proc/bnzoo-run").start(make_config())


def test_a_folder_with_strangers_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"expected an empty or new folder, found thesis\.txt"):
        runs.RunFolder(tmp_path).start(make_config())
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_with_another_configs_run_is_refused_with_the_difference(tmp_path):
    folder = runs.RunFolder(tmp_path)
    folder.start(make_config(epochs=2))
    folder.claim(make_config(epochs=2))
    for refused in (folder.start, folder.resume):
        with pytest.raises(InputError, match=r"another config.*\n  train\.epochs: 2 there, 3 here"):
            refused(make_config(epochs=3))


def test_a_folder_with_the_same_run_asks_for_resume(tmp_path):
    folder = runs.RunFolder(tmp_path)
    folder.start(make_config())
    folder.claim(make_config())
    with pytest.raises(InputError, match=r"already holds a run .*not finished.*--resume"):
        folder.start(make_config())
    folder.resume(make_config())


def test_resume_of_nothing_is_refused_and_makes_nothing(tmp_path):
    with pytest.raises(InputError, match="nothing to resume"):
        runs.RunFolder(tmp_path / "none").resume(make_config())
    assert not (tmp_path / "none").exists()


def test_rows_survive_reopening_and_later_ones_are_dropped(tmp_path):
    path = tmp_path / "history.csv"
    file = files.RowFile(path, ("epoch", "loss", "val_loss"), keep_epochs=0)
    for epoch in (1, 2, 3):
        file.append({"epoch": epoch, "loss": 1 / 3 / epoch})
    assert files.read_rows(path)[0] == {"epoch": 1, "loss": 1 / 3, "val_loss": None}
    again = files.RowFile(path, ("epoch", "loss", "val_loss"), keep_epochs=2)
    assert [row["epoch"] for row in again.rows] == [1, 2]
    assert [row["epoch"] for row in files.read_rows(path)] == [1, 2]


def test_column_names_with_commas_are_quoted(tmp_path):
    path = tmp_path / "weights_path.csv"
    label = "conv_3/kernel[1,0,4,3]"
    files.RowFile(path, ("epoch", label), keep_epochs=0).append({"epoch": 1, label: 0.5})
    assert files.read_rows(path) == [{"epoch": 1, label: 0.5}]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    files.write_atomically(path, "old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_summary_is_valid_json_even_with_nan(tmp_path):
    folder = runs.RunFolder(tmp_path)
    folder.write_summary({"status": "diverged", "final": {"loss": float("nan")}, "n": [1.5]})
    text = folder.summary_file.read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "status": "diverged",
        "final": {"loss": None},
        "n": [1.5],
    }


def test_a_broken_summary_is_one_clear_error(tmp_path):
    folder = runs.RunFolder(tmp_path)
    folder.summary_file.write_text("{")
    with pytest.raises(InputError, match=r"summary\.json: expected the summary of a run"):
        folder.summary()


def write_archive(path):
    """Write what is whole as an archive, as a checkpoint is."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")


def test_only_the_newest_and_the_kept_checkpoint_stay(tmp_path):
    folder = runs.RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for epoch in (1, 2, 10):
        write_archive(folder.checkpoint(epoch))
    (folder.checkpoints / ".epoch-00011.keras.partial.keras").write_text("cut off")
    assert folder.last_checkpoint() == (10, folder.checkpoint(10))
    folder.keep_checkpoints({2, 10})
    assert sorted(path.name for path in folder.checkpoints.glob("epoch-*")) == [
        "epoch-00002.keras",
        "epoch-00010.keras",
    ]
    folder.drop_checkpoints()
    assert folder.last_checkpoint() is None


def test_a_resumed_run_that_meets_other_data_is_refused_with_the_difference(tmp_path):
    folder = runs.RunFolder(tmp_path)
    folder.start(make_config())
    folder.claim(make_config(), {"class_names": ["a", "b"], "fingerprint": "1"})
    with pytest.raises(InputError, match=r"fingerprint: 1 there, 2 now\nBring the data back"):
        folder.claim(make_config(), {"class_names": ["a", "b"], "fingerprint": "2"})
    assert json.loads(folder.data_file.read_text())["fingerprint"] == "1"
    # What earlier versions did not write down is no other data.
    folder.claim(make_config(), {"class_names": ["a", "b"], "fingerprint": "1", "new": 3})
    assert json.loads(folder.data_file.read_text())["new"] == 3


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    with (
        runs.RunFolder(tmp_path).held(),
        pytest.raises(InputError, match="another process is at work in this folder"),
        runs.RunFolder(tmp_path).held(),
    ):
        pass
    with runs.RunFolder(tmp_path).held():
        pass


def test_what_systems_leave_in_folders_is_no_stranger(tmp_path):
    (tmp_path / ".DS_Store").write_text("")
    runs.RunFolder(tmp_path).start(make_config())


def test_a_new_folder_in_which_nothing_was_written_goes_again(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("new/deep", "mine"):
        with pytest.raises(KeyError), runs.RunFolder(tmp_path / name).held():
            raise KeyError
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


def interrupted_after(tmp_path, epochs):
    folder = runs.RunFolder(tmp_path)
    folder.claim(make_config())
    folder.keep_first_loss(1.0)
    for epoch in range(1, epochs + 1):
        write_archive(folder.checkpoint(epoch))
        folder.keep_checkpoints({epoch})
    rows = files.RowFile(folder.history_file, runs.HISTORY_COLUMNS, keep_epochs=0)
    for epoch in range(1, epochs + 1):
        rows.append({"epoch": epoch, "loss": 1.0, "seconds": 0.1})
    return folder


@pytest.mark.parametrize("epochs", [1, 27])
def test_a_run_whose_checkpoints_were_deleted_is_refused_and_keeps_its_history(tmp_path, epochs):
    folder = interrupted_after(tmp_path, epochs)
    folder.resume(make_config())
    folder.drop_checkpoints()
    count = "1 epoch " if epochs == 1 else "27 epochs "
    with pytest.raises(InputError, match=f"with {count}and in checkpoint/ none.*-again`"):
        folder.resume(make_config())
    assert len(folder.history()) == epochs


def test_a_run_whose_newest_checkpoint_or_history_was_deleted_is_refused(tmp_path):
    folder = interrupted_after(tmp_path, 3)
    folder.checkpoint(3).rename(folder.checkpoint(1))
    with pytest.raises(InputError, match=r"with 3 epochs and in checkpoint/ epoch 1\."):
        folder.resume(make_config())
    folder.history_file.unlink()
    with pytest.raises(InputError, match=r"with 0 epochs and in checkpoint/ epoch 1\."):
        folder.resume(make_config())


@pytest.mark.parametrize("rows", [0, 1])
def test_a_run_that_was_stopped_before_its_first_checkpoint_can_be_resumed(tmp_path, rows):
    folder = interrupted_after(tmp_path, rows)
    folder.checkpoint(1).unlink(missing_ok=True)
    folder.resume(make_config())


def test_a_look_whether_a_folder_is_held_changes_nothing_and_delays_nobody(tmp_path):
    folder = runs.RunFolder(tmp_path / "run")
    assert not folder.is_held()
    folder.path.mkdir()
    assert not folder.is_held()
    assert list(folder.path.iterdir()) == []
    with folder.held():
        assert runs.RunFolder(folder.path).is_held()
    (folder.path / ".lock").touch()  # of a process that was killed
    assert not folder.is_held()
    with folder.held():
        pass


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    def write(number):
        for _ in range(50):
            files.write_atomically(tmp_path / "summary.json", str(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
