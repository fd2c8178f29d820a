"""Input that somebody else made, or that is damaged: one clear message, and nothing else happens.

Each fault that `scripts/fuzz.py` found has a test of its own; below them it runs a few hundred
inputs itself.
"""

import contextlib
import io
import json
import os
import shutil
import warnings
import zipfile

import fuzz
import hostile_inputs
import keras
import numpy as np
import pytest
from data_files import arrays, write_folder, write_npz
from hypothesis import HealthCheck, given, settings

from bnzoo.config import load_config
from bnzoo.config.reading import parse_yaml
from bnzoo.data import load
from bnzoo.errors import InputError
from bnzoo.files import read_rows, read_text, user_path
from bnzoo.own_code import check as check_function
from bnzoo.runs import RunFolder, StudyFolder, SweepFolder
from bnzoo.saving import load_model

GOOD = '{"data": {"name": "digits"}, "model": {"name": "dense"}}'


@pytest.fixture(scope="module")
def made():
    return fuzz.templates()


@pytest.fixture
def run(made, tmp_path):
    hostile_inputs.write_files(tmp_path / "run", made.run)
    return tmp_path / "run"


@pytest.fixture
def study(made, tmp_path):
    hostile_inputs.write_files(tmp_path / "study", made.study)
    return tmp_path / "study"


# --- configs and --set ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", hostile_inputs.YAML_TEXTS)
def test_yaml_that_no_config_holds_is_an_input_error_or_a_plain_value(text):
    with contextlib.suppress(InputError):
        repr(parse_yaml(f"a: {text}"))


def test_a_billion_aliases_are_refused_at_once():
    with pytest.raises(InputError, match="more than 100,000 values, aliases followed"):
        parse_yaml(hostile_inputs.BOMB)


def test_a_value_within_itself_is_refused():
    with pytest.raises(InputError, match="nested more than 50 deep"):
        parse_yaml("a: &a [*a]")


def test_a_few_aliases_and_dates_are_values_of_their_own():
    tree = parse_yaml("a: &a [1, 2]\nb: *a\nday: 2020-01-02")
    assert tree["a"] == tree["b"] == [1, 2]
    assert tree["a"] is not tree["b"]
    assert str(tree["day"]) == "2020-01-02"


def test_a_config_without_an_end_is_refused(tmp_path):
    with pytest.raises(InputError, match="more than 16,777,216 bytes"):
        load_config("/dev/zero")


def test_a_name_that_cannot_be_printed_is_printed_escaped():
    code, printed, trace = fuzz.run_command(("check", "quickstart", "--set", "data.name=\ud800"))
    assert (code, trace) == (2, "")
    assert "\\ud800" in printed


@pytest.mark.parametrize("text", ["(" * 5000, "\0", "x = " + "-" * 20_000 + "1"])
def test_a_file_that_python_cannot_parse_is_an_input_error(tmp_path, text):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=r"mine\.py"):
        check_function(f"{tmp_path / 'mine.py'}:load", (), {}, "data.params")


# --- data --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "~nobody-knows/x"])
def test_a_path_that_cannot_be_is_an_input_error(name):
    with pytest.raises(InputError, match="expected a path that can be read"):
        user_path(name)
    for kind in ("npz", "folder"):
        with pytest.raises(InputError, match="expected a path that can be read"):
            load(f"{kind}:{name}")


def test_a_file_that_may_not_be_read_is_one_line(tmp_path):
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    code, printed, trace = fuzz.run_command(("check", str(loop)))
    assert (code, trace) == (2, "")
    code, printed, trace = fuzz.run_command(("train", "quickstart", "--out", str(loop / "x")))
    assert (code, trace) in ((1, ""), (2, ""))
    assert str(loop) in printed


@pytest.mark.parametrize("content", hostile_inputs.HOSTILE_NPY)
@pytest.mark.parametrize("name", ["x_train", "class_names"])
def test_no_array_is_unpickled_and_each_damaged_one_is_an_input_error(
    tmp_path, monkeypatch, content, name
):
    monkeypatch.chdir(tmp_path)
    good = {f"{key}.npy": hostile_inputs.npy(value) for key, value in arrays(num_classes=2).items()}
    data = hostile_inputs.zipped(list((good | {f"{name}.npy": content}).items()))
    (tmp_path / "data.npz").write_bytes(data)
    with pytest.raises(InputError, match=name):
        load("npz:data.npz", batch_size=4)
    assert not (tmp_path / hostile_inputs.CODE_RAN).exists()


def test_arrays_larger_than_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path = write_npz(tmp_path / "a.npz")
    monkeypatch.setattr("bnzoo.data.npz.memory_bytes", lambda: 500.0)
    with pytest.raises(InputError, match=r"expected arrays that fit into the .* of memory here"):
        load(f"npz:{path}")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_a_pipe_or_a_device_among_images_is_an_unreadable_image(tmp_path, make):
    folder = write_folder(tmp_path / "images")
    make(folder / "train/cat/pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png cannot be read"):
        load(f"folder:{folder}")
    splits = load(f"folder:{folder}", skip_unreadable=True, batch_size=4)
    assert len(splits.skipped) == 1


# --- folders of runs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, b"9" * 5000, b'{"status": 1}']
)
def test_a_damaged_summary_is_an_input_error(run, content):
    (run / "summary.json").write_bytes(content)
    with pytest.raises(InputError, match="expected the summary of a run that ended"):
        RunFolder(run).summary()
    assert not RunFolder(run).has_ended()  # what was in it can be measured again


def without(tree, key):
    del tree[key]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: without(tree, "data"), "data: missing"),
        (lambda tree: tree.update(test=None), "expected the loss of a completed run"),
        (lambda tree: tree["data"]["preprocessing"].update(layout="x"), "layout"),
        (lambda tree: tree["data"]["preprocessing"].update(image_size=[10**9, 10**9]), "pixels"),
        (lambda tree: tree["best"]["row"].clear(), "expected its"),
    ],
)
def test_a_summary_that_lacks_what_is_read_names_it(run, change, said):
    tree = json.loads((run / "summary.json").read_text())
    change(tree)
    (run / "summary.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match=said):
        RunFolder(run).summary()


@pytest.mark.parametrize("folder", ["../outside", "/tmp/outside", "runs/../../outside"])
def test_a_study_names_no_run_outside_of_it(study, folder):
    file = study / "summary.json"
    tree = json.loads(file.read_text())
    for variant in tree["variants"].values():
        for one in variant["runs"]:
            one["folder"] = folder
    file.write_text(json.dumps(tree))
    with pytest.raises(InputError, match="expected a folder inside this one"):
        StudyFolder(study).best_run()


@pytest.mark.parametrize("content", ["loss\n1\n", "epoch,loss\nx,1\n", "epoch,loss\n1,2,3\n"])
def test_a_damaged_history_is_an_input_error(run, content):
    (run / "history.csv").write_text(content)
    with pytest.raises(InputError, match=r"history\.csv"):
        RunFolder(run).history() or pytest.fail("it was read")


def test_a_pipe_in_the_place_of_a_file_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "history.csv")
    for read in (read_text, read_rows):
        with pytest.raises(InputError, match="expected a file, got something else"):
            read(tmp_path / "history.csv")


def test_a_pipe_in_the_place_of_a_runs_config_does_not_wait(run):
    (run / "config.yaml").unlink()
    os.mkfifo(run / "config.yaml")
    with pytest.raises(InputError, match=r"config\.yaml: expected a YAML file, got a pipe"):
        RunFolder(run).config()


@pytest.mark.parametrize("command", ["train", "compare", "evaluate"])
def test_nothing_is_written_through_a_link_that_leads_out(made, study, tmp_path, command):
    outside = tmp_path / "outside"
    outside.mkdir()
    source = study if command == "compare" else study / "runs/baseline/seed-0"
    place = {"train": "checkpoint", "compare": "figures", "evaluate": "evaluation"}[command]
    (source / place).symlink_to(outside)
    (source / "summary.json").unlink() if command == "train" else None
    more = () if command == "evaluate" else ("--resume",)
    code, printed, trace = fuzz.run_command((command, str(source), *more))
    assert (code, trace) == (2, "")
    assert "got a link that leads out of" in printed
    assert not any(outside.iterdir())


def test_a_link_within_the_folder_is_followed(run):
    (run / "last.keras").symlink_to("model.keras")
    RunFolder(run).refuse_links()


# --- models --------------------------------------------------------------------------------


def with_member(run, name, data):
    file = run / "model.keras"
    with zipfile.ZipFile(file) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    file.write_bytes(hostile_inputs.zipped(list((members | {name: data}).items())))
    return file


@pytest.mark.parametrize("node", hostile_inputs.NODES)
def test_no_code_of_a_model_is_run(run, tmp_path, monkeypatch, node):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(run / "model.keras") as archive:
        tree = json.loads(archive.read("config.json"))
    tree["config"]["layers"][1] = {**tree["config"]["layers"][1], **node}
    file = with_member(run, "config.json", json.dumps(tree).encode())
    with pytest.raises(InputError, match=r"model\.keras"):
        load_model(file)
    assert not (tmp_path / hostile_inputs.CODE_RAN).exists()


def test_a_lambda_in_an_hdf5_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = [keras.Input((3,)), keras.layers.Lambda(lambda x: x)]
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stderr(io.StringIO()):
        keras.Sequential(layers).save("m.h5")
    with pytest.raises(InputError, match="`Lambda` layer"):
        load_model("m.h5")


@pytest.mark.parametrize("content", ["[]", "{}", '{"data": 1}', "\0"])
def test_a_damaged_origin_of_a_sweep_is_an_input_error(tmp_path, content):
    (tmp_path / "origin.json").write_text(content)
    with pytest.raises(InputError, match=r"origin\.json: expected the data and versions"):
        SweepFolder(tmp_path)._origin()


def test_what_a_model_holds_is_not_unpacked_outside(run, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    before = set(tmp_path.rglob("*"))
    with_member(run, "assets/../../outside", b"evil")
    file = with_member(run, "../outside", b"evil")
    shutil.copy(file, tmp_path / "m.keras")
    with contextlib.suppress(InputError):
        load_model(tmp_path / "m.keras")
    assert set(tmp_path.rglob("*")) == before | {tmp_path / "m.keras"}


def test_a_model_that_unpacks_to_more_than_memory_is_refused(run, monkeypatch):
    monkeypatch.setattr("bnzoo.archives.memory_bytes", lambda: 100.0)
    with pytest.raises(InputError, match="more than the memory here"):
        load_model(run / "model.keras")
    monkeypatch.undo()
    monkeypatch.setattr("bnzoo.archives.MAX_TEXT", 100)
    with pytest.raises(InputError, match=r"got a config\.json of"):
        load_model(run / "model.keras")


# --- anything --------------------------------------------------------------------------------


def meet(strategy, tmp_path, count):
    @settings(
        max_examples=count, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def check(attack):
        ending, wrong = fuzz.faults_of(attack, tmp_path / "sandbox")
        assert not wrong, "\n".join([ending, str(attack), *wrong])

    check()


@pytest.mark.parametrize(
    ("kind", "count"),
    [("config", 100), ("override", 60), ("npz", 8), ("image folder", 6), ("model", 12), ("run", 8)],
)
def test_no_input_ends_in_a_traceback_writes_outside_or_runs_code(
    tmp_path, in_this_process, kind, count
):
    meet(fuzz.strategies([kind])[kind], tmp_path, count)


def test_what_runs_code_would_be_noticed(tmp_path, monkeypatch):
    """The payloads work: otherwise their silence says nothing."""
    attack = hostile_inputs.Attack("own code", ("train", "c.yaml"), {
        "c.yaml": b"data: {name: 'evil.py:load'}\nmodel: {name: dense}",
        "evil.py": hostile_inputs.HOSTILE_CODE[0],
    })  # fmt: skip
    assert any("code was run" in one for one in fuzz.faults_of(attack, tmp_path / "sandbox")[1])
    monkeypatch.chdir(tmp_path)
    np.load(io.BytesIO(hostile_inputs.HOSTILE_NPY[2]), allow_pickle=True)
    assert (tmp_path / hostile_inputs.CODE_RAN).exists()
