"""What an export consists of, and that it lands whole or not at all."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import serving_exports as exports
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from bnzoo import config, data, models
from bnzoo.errors import InputError
from bnzoo.serving import export_source, layout, parity
from bnzoo.training import train

RESULTS = Path(__file__).parent.parent / "configs" / "results"
sys.path.append(str(Path(__file__).parent.parent / "scripts"))

from parity_table import ask_saved_model_cli  # noqa: E402


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exports.export_classifier(tmp_path_factory.mktemp("served") / "small")


@pytest.fixture(scope="module")
def exported_run(tmp_path_factory):
    tree = {
        "data": {"name": "digits", "batch_size": 256},
        "model": {"name": "three_conv", "filters": [4, 4, 4]},
        "train": {"epochs": 1, "tensorboard": False},
    }
    folder = tmp_path_factory.mktemp("run")
    train(config.validate(tree, "test"), folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        exports.compare_in_this_process(patch)
        return export_source(folder / "run", folder / "served")


def test_an_export_holds_the_graph_its_facts_a_card_and_warm_up_requests(exported):
    found = {str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()}
    assert {
        "saved_model.pb",
        "bnzoo.json",
        "MODEL_CARD.md",
        "assets.extra/tf_serving_warmup_requests",
        "variables/variables.index",
    } <= found


def test_warm_up_requests_are_what_tensorflow_serving_reads(exported):
    """Each record is a PredictionLog; what it asks is asked here as the server does."""
    file = str(exported / layout.WARMUP_FILE)
    records = [record.numpy() for record in tf.data.TFRecordDataset(file)]
    asked = set()
    for record in records:
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        name = request.model_spec.signature_name
        assert request.model_spec.name == "small"
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        (values,) = inputs.values()
        answer = exports.signature(exported, name)(
            **{key: tf.constant(value) for key, value in inputs.items()}
        )
        assert all(len(value) == len(values) for value in answer.values())
        asked.add((name, len(values)))
    assert asked == {
        (name, size)
        for name in ("serving_default", "serve_bytes", "decode_bytes")
        for size in (1, 32)
    }
    assert len(records) <= 1000  # TensorFlow Serving refuses more


def test_a_runs_export_says_what_the_run_knew(exported_run):
    facts = exports.facts(exported_run)
    assert facts["config"]["model"]["name"] == "three_conv"
    assert facts["data"]["name"] == "digits"
    assert set(facts["test"]) == {"accuracy", "loss"}
    assert facts["class_names"] == [str(digit) for digit in range(10)]
    assert facts["preprocessing"]["image_size"] == [8, 8]
    assert facts["versions"]["tensorflow"] == tf.__version__
    assert set(facts["signatures"]) == {"serving_default", "serve_bytes", "decode_bytes"}
    assert facts["signatures"]["serve_bytes"]["outputs"]["class_name"] == {
        "dtype": "string",
        "shape": [None],
    }


def test_a_runs_export_is_compared_on_its_test_data(exported_run):
    assert exports.facts(exported_run)["parity"]["inputs"] == "real examples"


def test_data_that_is_gone_is_replaced_by_random_numbers(tmp_path, monkeypatch):
    exports.compare_in_this_process(monkeypatch)
    x, y = np.zeros((8, 8, 8, 1), "uint8"), np.arange(8) % 2
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    tree = {
        "data": {"name": f"npz:{tmp_path / 'data.npz'}", "batch_size": 4, "validation": "none"},
        "model": {"name": "dense", "units": [2]},
        "train": {"epochs": 1, "tensorboard": False},
    }
    train(config.validate(tree, "test"), tmp_path / "run")
    for name, expected in (("with", "real examples"), ("without", "random numbers")):
        folder = export_source(tmp_path / "run", tmp_path / name)
        assert exports.facts(folder)["parity"]["inputs"] == expected
        (tmp_path / "data.npz").unlink(missing_ok=True)


def test_data_is_in_place_when_no_download_is_needed(tmp_path, monkeypatch):
    for variable in ("BNZOO_DATA_DIR", "BNZOO_CACHE_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "there").mkdir()
    assert data.is_in_place("digits")
    assert data.is_in_place(f"folder:{tmp_path / 'there'}")
    assert not data.is_in_place(f"npz:{tmp_path / 'none.npz'}")
    assert not data.is_in_place("mnist")


def test_the_model_card_tells_a_person_what_it_is(exported, exported_run):
    card = (exported_run / "MODEL_CARD.md").read_text()
    for words in ("# served", "`three_conv`", "batch normalization: before", "`digits`",
                  "test examples: accuracy", "`serve_bytes` takes `image_bytes`", "(any, 8, 8, 1)",
                  "differs from the trained model by at most", "tensorflow 2."):  # fmt: skip
        assert words in card, words
    assert (
        "Not known: it was exported from a model file" in (exported / "MODEL_CARD.md").read_text()
    )


# --- versions get there whole --------------------------------------------------------------------


def hidden_folders(path):
    return [entry for entry in path.glob(".export-*") if entry.is_dir()]


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path):
    """Killed while it writes, from outside, as a power cut or the system would."""
    script = f"""
import time
from pathlib import Path
from bnzoo.serving import layout
def write(folder):
    (folder / "half").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
layout.publish(Path({str(tmp_path)!r}), None, write)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        while "writing" not in process.stdout.readline():
            assert process.poll() is None
        assert layout.versions_in(tmp_path) == []
        # While it is at work nobody takes its folder away.
        layout.publish(tmp_path, None, lambda folder: (folder / "whole").write_text("1"))
        assert len(hidden_folders(tmp_path)) == 1
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert len(hidden_folders(tmp_path)) == 1
    layout.publish(tmp_path, None, lambda folder: (folder / "whole").write_text("2"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["1", "2"]


@pytest.mark.slow
def test_two_exports_at_once_get_two_versions(tmp_path):
    script = f"""
import sys, time
from pathlib import Path
from bnzoo.serving import layout
def write(folder):
    (folder / "mine").write_text(sys.argv[1])
    time.sleep(0.2)
layout.publish(Path({str(tmp_path)!r}), None, write)
"""
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    found = {path.name: (path / "mine").read_text() for path in tmp_path.iterdir()}
    assert sorted(found) == ["1", "2", "3"]
    assert sorted(found.values()) == ["0", "1", "2"]


def test_a_full_disk_leaves_no_version(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layout.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        layout.publish(tmp_path, None, lambda folder: (folder / "one").write_text("1"))
    assert list(tmp_path.iterdir()) == []


def test_the_newest_export_of_a_folder_is_found(tmp_path, exported):
    assert layout.find_export(exported) == exported
    assert layout.find_export(exported.parent) == exported
    (tmp_path / "9").mkdir()  # no export
    (tmp_path / "10").symlink_to(exported)
    (tmp_path / "2").symlink_to(exported)
    assert layout.find_export(tmp_path) == tmp_path / "10"
    with pytest.raises(InputError, match=r"expected an exported model, .* `bnzoo export"):
        layout.find_export(tmp_path / "9")
    with pytest.raises(InputError, match="found no such folder"):
        layout.find_export(tmp_path / "none")


# --- parity in new processes ---------------------------------------------------------------------


@pytest.mark.slow
def test_tensorflows_own_tool_answers_the_same(exported, monkeypatch):
    """`saved_model_cli run` knows nothing of bnzoo. All batch sizes: scripts/parity_table.py."""
    monkeypatch.setattr(parity, "BATCH_SIZES", (7,))
    model = exports.small_classifier()
    batches = parity.sample_inputs(model)
    answers = ask_saved_model_cli(exported, batches)
    assert parity.largest_difference(model, "logits", batches, answers) < 1e-5


def test_batches_to_compare_on_are_real_examples_repeated_if_they_are_few():
    model = exports.small_classifier()
    examples = np.random.default_rng(0).random((5, *exports.SHAPE)).astype("float32")
    batches = parity.sample_inputs(model, examples)
    assert [len(batch) for batch in batches] == [1, 7, 128]
    np.testing.assert_array_equal(np.concatenate(batches)[:10], np.concatenate([examples] * 2))


def test_the_parity_table_covers_every_network_and_placement():
    if not (RESULTS / "parity.json").exists():
        pytest.skip("not measured yet: run scripts/parity_table.py")
    table = json.loads((RESULTS / "parity.json").read_text())["rows"]
    measured = {(row["model"], row["placement"]) for row in table}
    placements = ("none", "before", "after")
    assert measured == {(name, one) for name in models.list_models() for one in placements}
    for row in table:
        assert row["compared_on"] == "real examples"
        assert row["batch_sizes"] == [1, 7, 128]
        assert max(row["tf.saved_model.load"], row["saved_model_cli"]) <= row["allowed"]
