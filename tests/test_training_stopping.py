"""Best epoch and early stopping as functions of the history."""

import pytest

from bnzoo.config.train import EarlyStopping
from bnzoo.training.stopping import best_row, selection_metric, should_stop

NAN = float("nan")


def rows(metric, values):
    return [{"epoch": epoch + 1, metric: value} for epoch, value in enumerate(values)]


def test_best_row_is_the_first_highest_accuracy_or_lowest_loss():
    assert best_row(rows("val_accuracy", [0.1, 0.9, 0.9]), "val_accuracy")["epoch"] == 2
    assert best_row(rows("val_loss", [3.0, 1.0, 1.0]), "val_loss")["epoch"] == 2


def test_best_row_ignores_what_is_not_finite_or_not_measured():
    assert best_row(rows("val_loss", [NAN, 2.0, None]), "val_loss")["epoch"] == 2
    assert best_row(rows("loss", [NAN]), "loss") is None
    assert best_row([], "loss") is None


def test_validation_decides_where_it_is_measured():
    assert selection_metric([{"accuracy": 1.0, "val_accuracy": 0.5}]) == "val_accuracy"
    assert selection_metric([{"accuracy": 1.0, "val_accuracy": None}]) == "accuracy"


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "stops"),
    [
        ([3.0, 2.0, 1.0], 1, 0.0, False),
        ([1.0, 2.0], 1, 0.0, True),
        ([1.0, 2.0], 2, 0.0, False),
        ([1.0, 2.0, 2.0], 2, 0.0, True),
        ([1.0, 2.0, 0.5], 2, 0.0, False),
        ([1.0, 0.95, 0.91], 2, 0.1, True),
        ([1.0], 0, 0.0, False),
        ([1.0, 1.0], 0, 0.0, True),
        ([NAN, 1.0], 1, 0.0, False),
        ([1.0, NAN], 1, 0.0, True),
        ([], 1, 0.0, False),
    ],
)
def test_stopping_waits_for_an_improvement(values, patience, min_delta, stops):
    stopping = EarlyStopping(monitor="val_loss", patience=patience, min_delta=min_delta)
    assert should_stop(rows("val_loss", values), stopping) is stops


def test_without_early_stopping_nothing_stops():
    assert should_stop(rows("val_loss", [1.0, 2.0, 3.0]), None) is False
