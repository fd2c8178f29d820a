"""`bnzoo predict`, `export` and `serve` from the command line: tables, and one clear error each."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import serving_exports as exports
from PIL import Image
from study_folders import make_study
from sweep_folders import make_sweep

from bnzoo import config, load_model, runs
from bnzoo.cli.exporting import describe_choice
from bnzoo.errors import InputError
from bnzoo.serving import parity
from bnzoo.serving.prediction import predict_images
from bnzoo.studies import compare


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exports.export_classifier(tmp_path_factory.mktemp("served") / "small")


@pytest.fixture
def images(tmp_path):
    """Forty images: more than one batch."""
    random, paths = np.random.default_rng(0), []
    for number in range(40):
        path = tmp_path / f"{number}.{'png' if number % 2 else 'jpg'}"
        Image.fromarray(random.integers(0, 256, (9, 12), "uint8")).save(path)
        paths.append(path)
    return paths


def test_predict_prints_a_table_of_classes_and_probabilities(call, exported, images):
    code, printed, errors = call("predict", exported.parent, *images)
    assert code == 0, errors
    heading, *rows = printed.splitlines()
    assert heading.split() == ["image", "class", "probability"]
    assert [row.split()[0] for row in rows] == [str(image) for image in images]
    for row, expected in zip(rows, predict_images(exported, images), strict=True):
        name, probability = expected[0]
        assert row.split()[1:] == [name, f"{probability:.4f}"]
        assert name in exports.CLASSES


def test_predict_shows_more_classes_when_asked(call, exported, images):
    code, printed, _ = call("predict", exported, images[0], "--top", 3)
    assert code == 0
    probabilities = [float(line.split()[-1]) for line in printed.splitlines()[1:]]
    assert len(probabilities) == 3
    assert probabilities == sorted(probabilities, reverse=True)


def test_every_class_is_there_with_its_probability(exported, images):
    (classes,) = predict_images(exported, images[:1])
    assert {name for name, _ in classes} == set(exports.CLASSES)
    assert sum(probability for _, probability in classes) == pytest.approx(1, abs=1e-5)


def features(tmp_path):
    exports.bnzoo.export_saved_model(exports.small_classifier(), tmp_path / "features")
    return tmp_path / "features"


def broken(exported, tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    (tmp_path / "worse.png").write_bytes(b"")
    return [tmp_path / "bad.png", tmp_path / "worse.png"]


def test_images_that_cannot_be_decoded_are_all_named(call, exported, images, tmp_path):
    bad = broken(exported, tmp_path)
    code, printed, errors = call("predict", exported, *images[:35], *bad)
    assert code == 2
    assert printed == ""
    assert errors.startswith(f"bnzoo predict: {bad[0]}, {bad[1]}: cannot be decoded")
    assert str(images[0]) not in errors


def test_a_missing_image_and_a_missing_export_are_one_clear_error(call, exported, tmp_path):
    code, _, errors = call("predict", exported, tmp_path / "none.png")
    assert code == 2
    assert "none.png: expected an image file, got: No such file" in errors
    code, _, errors = call("predict", tmp_path / "none", tmp_path / "none.png")
    assert code == 2
    assert "expected an exported model" in errors


def test_an_export_that_takes_no_images_is_refused(call, images, tmp_path, monkeypatch):
    exports.compare_in_this_process(monkeypatch)
    code, _, errors = call("predict", features(tmp_path), images[0])
    assert code == 2
    assert "got one with serving_default, which does not take encoded images" in errors


def test_an_export_into_the_folder_of_a_run_is_refused(tmp_path):
    """It would be a run and an export at once."""
    tree = {"data": {"name": "digits"}, "model": {"name": "dense"}, "train": {"epochs": 1}}
    runs.RunFolder(tmp_path).claim(config.validate(tree, "test"))
    with pytest.raises(InputError, match=r"got that of a run\. Choose another, for example --out"):
        exports.bnzoo.export_saved_model(exports.small_classifier(), tmp_path)
    assert not (tmp_path / "1").exists()


def test_a_wrong_folder_is_one_line_that_leads_on(call, exported, tmp_path):
    run, empty = tmp_path / "run", tmp_path / "empty"
    empty.mkdir()
    tree = {"data": {"name": "digits"}, "model": {"name": "dense"}, "train": {"epochs": 1}}
    runs.RunFolder(run).start(checked := config.validate(tree, "test"))
    runs.RunFolder(run).claim(checked)
    models = tmp_path / "models"
    for name in ("one", "two"):
        (models / name).mkdir(parents=True)
        (models / name / "1").symlink_to(exported)
    export_it = f"got the folder of a run. Export it first: `bnzoo export {run} --out served/run`."
    not_exported = "found none in it. Make one with `bnzoo export SOURCE --out DIR`."
    already = f"got what was exported already. Serve it with `bnzoo serve {exported}`"
    for arguments, message in (
        (["predict", run, "a.png"], export_it),
        (["serve", run], export_it),
        (["predict", tmp_path, "a.png"], not_exported),
        (["serve", tmp_path], not_exported),
        (["predict", empty, "a.png"], "got an empty folder. Make one with `bnzoo export"),
        (
            ["predict", models, "a.png"],
            f"got a folder of them: one, two. Name one, for example {models}/one.",
        ),
        (["export", exported, "--out", tmp_path / "out"], already),
        (["export", exported.parent, "--out", tmp_path / "out"], "got what was exported already."),
        (["export", empty, "--out", tmp_path / "out"], "expected a run folder with config.yaml"),
    ):
        code, printed, errors = call(*arguments)
        assert (code, printed) == (2, ""), (arguments, errors)
        assert message in errors, (arguments, errors)
        assert errors.startswith(f"bnzoo {arguments[0]}: {arguments[1]}: expected ")
        assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("level", ["", pytest.param("3", marks=pytest.mark.slow)])
def test_errors_come_without_what_tensorflow_logs_when_it_starts(level, exported, tmp_path):
    """In a process of its own, where nobody has started TensorFlow before."""
    (tmp_path / "bad.png").write_text("no image")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": level}
    if not level:
        del environment["TF_CPP_MIN_LOG_LEVEL"]
    command = [sys.executable, "-m", "bnzoo", "predict", str(exported), str(tmp_path / "bad.png")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"bnzoo predict: .*bad\.png: cannot be decoded; .*\n", done.stderr)


def test_predict_from_an_export_that_cannot_be_loaded_is_one_line(call, exported, tmp_path):
    for name, content in (("saved_model.pb", b"broken"), ("variables/variables.index", b"")):
        shutil.copytree(exported, tmp_path / name)
        (tmp_path / name / name).write_bytes(content)
        code, _, errors = call("predict", tmp_path / name, "a.png")
        assert code == 2, errors
        assert f"{name}: expected a SavedModel that TensorFlow can load, got: " in errors
        assert len(errors.splitlines()) == 1


def test_damaged_metadata_is_one_clear_error(call, images, tmp_path, monkeypatch):
    exports.compare_in_this_process(monkeypatch)
    folder = exports.export_classifier(tmp_path / "small")
    (folder / "bnzoo.json").write_text("{")
    code, _, errors = call("predict", folder, images[0])
    assert code == 2
    assert "expected the metadata of an export" in errors


def test_a_best_run_without_its_model_is_one_line_that_is_true(call, tmp_path):
    """Of a study too: the run has completed, and --resume would not bring the model back."""
    out = tmp_path / "study"
    tree = {
        "data": {"name": "digits", "batch_size": 256},
        "model": {"name": "dense", "units": [4]},
        "train": {"epochs": 1, "tensorboard": False},
        "compare": {"variants": {"none": {"model.placement": "none"}}, "seeds": [0]},
    }
    compare(config.validate(tree, "test"), out)
    best = runs.StudyFolder(out).best_run()
    best.model_file.unlink()
    with pytest.raises(InputError) as error:
        load_model(best.path)
    code, printed, errors = call("export", out, "--out", tmp_path / "served")
    assert (code, printed) == (2, "")
    assert errors == f"bnzoo export: {error.value}\n"
    assert f"{best.path}: the run is completed and has no model.keras. Bring it back" in errors
    assert "--resume" not in errors
    assert not (tmp_path / "served").exists()


def test_export_says_which_run_it_takes_and_how_it_was_chosen(call, tmp_path):
    assert describe_choice(make_study(tmp_path / "study")) == (
        "best of 9 runs: before seed 2: before has the highest mean test accuracy, and of its runs "
        "seed 2 the best validation accuracy"
    )
    assert describe_choice(make_sweep(tmp_path / "sweep", seeds=(0, 1))) == (
        "best of 42 runs: learning_rate 0.2154, placement before seed 0: the trial has the highest "
        "mean validation accuracy, and of its runs seed 0 the highest"
    )
    code, printed, _ = call("export", "--help")
    assert code == 0
    assert "the variant with the highest mean test accuracy is exported" in " ".join(
        printed.split()
    )


def test_export_keeps_batch_normalization_when_asked(call, tmp_path, monkeypatch):
    exports.compare_in_this_process(monkeypatch)
    exports.small_classifier().save(tmp_path / "model.keras")
    for options, folded in (([], True), (["--no-fold"], False)):
        code, printed, errors = call(
            "export", tmp_path / "model.keras", "--out", tmp_path / "served", *options
        )
        assert code == 0, errors
        version = re.search(r"Exported to .*/(\d)", printed)[1]
        facts = json.loads((tmp_path / "served" / version / "bnzoo.json").read_text())
        assert facts["folded"] is folded


def test_an_export_that_answers_otherwise_is_one_line(call, tmp_path, monkeypatch):
    exports.small_classifier().save(tmp_path / "model.keras")
    answers = dict.fromkeys(("logits", "probabilities"), 0.0)
    monkeypatch.setattr(parity, "ask_new_process", lambda export, batches: answers)
    code, printed, errors = call("export", tmp_path / "model.keras", "--out", tmp_path / "served")
    assert (code, printed) == (1, "")
    assert errors.startswith("bnzoo export: The export of 'three_conv' differs from model.predict")
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "served").exists()


def test_serve_refuses_what_it_cannot_serve(call, exported, tmp_path):
    pytest.importorskip("tritonclient", reason="needs the extra serve")
    with socket.socket() as taken, socket.socket() as other:
        for one in (taken, other):
            one.bind(("127.0.0.1", 0))
        port, free = taken.getsockname()[1], other.getsockname()[1]
        other.close()
        for arguments, message in (
            ([tmp_path / "none"], "1/saved_model.pb or the like, found no such folder. Make one"),
            ([tmp_path], "1/saved_model.pb or the like, got an empty folder. Make one with"),
            ([exported, "--port", port], f"--port: cannot listen on 127.0.0.1:{port}"),
            ([exported, "--port", 70000], ":70000: expected a port from 1 to 65535. Choose"),
            (
                [exported, "--port", free, "--grpc-port", free],
                f"--grpc-port: cannot listen on 127.0.0.1:{free}: Address already in use. Choose",
            ),
            ([exported, "--host", "192.0.2.1"], "--port: cannot listen on 192.0.2.1:8080"),
            ([exported, "--host", "no host"], "--port: cannot listen on no host:8080: Name"),
            ([exported, "--poll-seconds", "nan"], "Invalid value for '--poll-seconds'"),
            ([exported, "--poll-seconds", "inf"], "Invalid value for '--poll-seconds'"),
            ([exported, "--max-request-mb", 0], "--max-request-mb: expected a number above 0"),
            ([exported, "--max-request-mb", "nan"], "expected a number above 0 and below 2048"),
        ):
            code, _, errors = call("serve", *arguments)
            assert code == 2, (arguments, errors)
            assert message in errors, (arguments, errors)
            assert "Traceback" not in errors


def test_serve_says_what_to_install_when_its_packages_are_missing(call, exported, monkeypatch):
    from bnzoo.serving.server import start

    monkeypatch.setattr(start.importlib.util, "find_spec", lambda name: None)
    code, _, errors = call("serve", exported)
    assert code == 2
    assert "pip install '.[serve]'" in errors


def test_a_version_that_cannot_be_loaded_is_named(tmp_path):
    pytest.importorskip("tritonclient", reason="needs the extra serve")
    (tmp_path / "small" / "1").mkdir(parents=True)
    (tmp_path / "small" / "1" / "saved_model.pb").write_bytes(b"broken")
    command = [sys.executable, "-m", "bnzoo", "serve", tmp_path, "--port", "18123"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "small/1: expected a SavedModel that TensorFlow can load" in done.stderr
    assert "Traceback" not in done.stderr
