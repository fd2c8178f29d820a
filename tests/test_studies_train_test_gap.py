"""Accuracy in both modes on the same examples, against Keras."""

import dataclasses

import keras
import numpy as np
import pytest
from watching import prepared, watch

from bnzoo import load_model
from bnzoo.errors import InputError
from bnzoo.files import read_rows
from bnzoo.runs import StudyFolder
from bnzoo.studies import study as study_module

GAP = {"name": "train_test_gap", "examples": 500}
MOMENTA = {
    "baseline": {"model.batch_norm.momentum": 0.9},
    "variants": {"cumulative": {"model.batch_norm.momentum": None}},
    "seeds": [3],
    "study": GAP,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two momenta that train alike: the folder, the summary and the pictures."""
    patch, pictures = pytest.MonkeyPatch(), []
    patch.setattr(study_module, "measure_seconds", lambda config: (1.0, 1.0))
    out = tmp_path_factory.mktemp("watched") / "gap"
    summary = watch(
        out,
        GAP,
        ("model.placement", "before"),
        ("compare", MOMENTA),
        write_report=lambda *them: pictures.extend(them[3]),
    )
    patch.undo()
    return StudyFolder(out), summary, pictures


def test_both_accuracies_are_those_of_the_trained_model(finished):
    folder, *_ = finished
    run = folder.run("cumulative", 3)
    last, model = read_rows(run.watched_file)[-1], load_model(run.path)
    _, _, splits, _ = prepared(GAP, ("seed", 3), ("model.placement", "before"))
    splits.begin_epoch(0)
    batches = list(splits.train.take(2).as_numpy_iterator())
    labels = np.concatenate([y for _, y in batches])
    for mode, training in (("training_accuracy", True), ("inference_accuracy", False)):
        found = []
        for x, _ in batches:
            kept = model.get_weights()
            found.append(keras.ops.convert_to_numpy(model(x, training=training)).argmax(-1))
            model.set_weights(kept)
        assert last[mode] == pytest.approx((np.concatenate(found) == labels).mean(), abs=1e-6)


def test_momenta_train_alike_and_differ_in_inference(finished):
    folder, summary, pictures = finished
    one, other = (
        read_rows(folder.run(name, 3).watched_file) for name in ("baseline", "cumulative")
    )
    assert [row["step"] for row in one] == [6, 12]
    for first, second in zip(one, other, strict=True):
        assert first["training_accuracy"] == second["training_accuracy"]
    assert one[-1]["inference_accuracy"] != other[-1]["inference_accuracy"]
    gaps = [row["training_accuracy"] - row["inference_accuracy"] for row in one]
    entry = summary["variants"]["baseline"]
    assert entry["phase_gap"]["mean"] == pytest.approx(np.mean(gaps))
    assert entry["last_phase_gap"]["mean"] == pytest.approx(gaps[-1])
    assert (folder.figures / "train_test_gap.png").stat().st_size > 10_000
    assert "inference mode" in pictures[0].svg


def test_weights_that_are_no_longer_finite_have_no_accuracy():
    study, model, splits, _ = prepared(GAP)
    look = study.begin(model, splits)
    model.set_weights([np.full_like(one, np.nan) for one in model.get_weights()])
    (row,) = look.measure(6)
    assert np.isnan([*row.values()]).all()


def test_labels_in_a_column_are_labels():
    study, model, splits, _ = prepared(GAP, ("model.activation", "relu"))
    (expected,) = study.begin(model, splits).measure(6)
    columns = splits.train.map(lambda x, y: (x, y[:, None]))
    (row,) = study.begin(model, dataclasses.replace(splits, train=columns)).measure(6)
    assert row == expected


def test_a_model_that_classifies_nothing_is_refused():
    study, model, splits, train = prepared(GAP)
    train = train.model_copy(update={"loss": "mse"})
    with pytest.raises(InputError, match=r"a classifier .*got train\.loss"):
        study.check(model, splits, train)
