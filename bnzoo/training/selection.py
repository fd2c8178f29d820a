"""Which epoch was the best, and when to stop: pure functions of the history."""

from collections.abc import Sequence

from bnzoo.config.train import EarlyStopping

Row = dict[str, float | None]


def selection_metric(rows: Sequence[Row]) -> str:
    """Return the column that decides which epoch is best: validation accuracy where measured."""
    measured = bool(rows) and rows[-1].get("val_accuracy") is not None
    return "val_accuracy" if measured else "accuracy"


def best_row(rows: Sequence[Row], metric: str) -> Row | None:
    """Return the first row with the best finite value of `metric`, or None without any.

    Args:
        rows: the history.
        metric: a column; accuracies are maximised, losses minimised.
    """
    measured = [row for row in rows if _is_number(row.get(metric))]
    return max(measured, key=lambda row: _score(row[metric], metric), default=None)


def should_stop(rows: Sequence[Row], stopping: EarlyStopping | None) -> bool:
    """Return whether `stopping.patience` epochs have passed without an improvement.

    It looks at the whole history each time, so a resumed run stops where an undisturbed one does.
    """
    if stopping is None or not rows:
        return False
    scores = [
        _score(row[stopping.monitor], stopping.monitor)
        if _is_number(row[stopping.monitor])
        else float("-inf")
        for row in rows
    ]
    best, waited = scores[0], 0
    for score in scores[1:]:
        if score - stopping.min_delta > best:
            best, waited = score, 0
        else:
            waited += 1
    return waited >= max(stopping.patience, 1)


def _is_number(value: float | None) -> bool:
    return value is not None and value == value


def _score(value: float, metric: str) -> float:
    return value if metric.endswith("accuracy") else -value
