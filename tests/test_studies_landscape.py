"""Loss and gradient along the gradient, against moving the weights of a model."""

import numpy as np
import pytest
from watching import loss_and_gradient, prepared, watch

from bnzoo.errors import InputError
from bnzoo.runs import StudyFolder
from bnzoo.studies import study as study_module

LANDSCAPE = {"name": "landscape", "every": 3, "factors": [0.5, 4.0], "batches": 2}


def distance(ones, others):
    return np.sqrt(sum(np.square(a - b).sum() for a, b in zip(ones, others, strict=True)))


@pytest.mark.parametrize("step", [0, 3])
def test_values_are_those_of_moved_weights(step):
    study, model, splits, train = prepared(LANDSCAPE, ("model.placement", "before"))
    study.check(model, splits, train)
    before = [weight.copy() for weight in model.get_weights()]
    (row,) = study.begin(model, splits).measure(step)
    assert all(map(np.array_equal, before, model.get_weights()))
    splits.begin_epoch(0)
    batch = list(splits.train.take(2).as_numpy_iterator())[step // 3]
    weights = [one.numpy().astype("float64") for one in model.trainable_variables]
    _, gradient = loss_and_gradient(model, weights, batch)
    length = distance(gradient, [0 * one for one in gradient])
    sizes = [0.3 * factor for factor in (0.5, 4.0)]
    moved = [
        [w - size * g for w, g in zip(weights, gradient, strict=True)] for size in sizes
    ]  # fmt: skip
    losses, there = zip(*(loss_and_gradient(model, one, batch) for one in moved), strict=True)
    changes = [distance(one, gradient) for one in there]
    smoothness = max(c / (s * length) for c, s in zip(changes, sizes, strict=True))
    expected = [min(losses), max(losses), min(changes), max(changes), smoothness]
    np.testing.assert_allclose(list(row.values()), expected, rtol=2e-4)  # float32


def test_a_rate_that_has_decayed_to_nothing_shows_no_noise():
    study, model, splits, _ = prepared(LANDSCAPE)
    look = study.begin(model, splits)
    (usual,) = look.measure(3)
    model.optimizer.learning_rate.assign(1e-8)
    (row,) = look.measure(3)
    assert row["smoothness"] <= 2 * usual["smoothness"]


def test_a_run_without_a_second_look_is_refused():
    study, *run = prepared({**LANDSCAPE, "every": 13})
    with pytest.raises(InputError, match="every 13 steps, got a run of 12 steps"):
        study.check(*run)


def test_numbers_leave_the_first_look_out():
    study, *_ = prepared(LANDSCAPE)
    rows = [
        {"step": step, "loss_low": 1.0, "loss_high": 1.0 + gap, "change_low": 0.0,
         "change_high": 2 * gap, "smoothness": 10 * gap}
        for step, gap in ((0, 100.0), (3, 1.0), (6, 3.0), (9, 2.0))
    ]  # fmt: skip
    expected = {"loss_range": 2.0, "gradient_change": 4.0, "effective_smoothness": 30.0}
    assert study.count(rows) == expected
    assert study.count(rows[:1]) == {}


def test_a_study_draws_it(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "measure_seconds", lambda config: (1.0, 1.0))
    pictures = []
    summary = watch(
        tmp_path,
        LANDSCAPE,
        ("train.epochs", 1),
        write_report=lambda *them: pictures.extend(them[3]),
    )
    assert (StudyFolder(tmp_path).figures / "landscape.png").stat().st_size > 10_000
    assert "effective beta-smoothness" in pictures[0].svg
    assert all(one["loss_range"]["mean"] > 0 for one in summary["variants"].values())
