"""Names of what runs measure, and which end of each is the better one."""

from collections.abc import Iterable
from typing import Any


def history_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Return the columns of `history.csv`.

    Args:
        names: what is measured, in training and on the validation data.
    """
    names = list(names)
    return ("epoch", *names, *(f"val_{name}" for name in names), "learning_rate", "seconds")


def main_metric(names: Iterable[str]) -> str:
    """Return what a model is judged by: `accuracy` where it is measured, else `loss`."""
    return "accuracy" if "accuracy" in set(names) else "loss"


def judged_by(summary: dict[str, Any]) -> str:
    """Return the key of what a study's variants are judged by: `test_accuracy` or `test_loss`."""
    return summary.get("metric", "test accuracy").replace(" ", "_")


def goodness(metric: str, value: float) -> float:
    """Return what is the larger the better: accuracies as they are, all else with its sign turned.

    Args:
        metric: its name, also with `val_` or `test_`.
        value: of it.
    """
    return value if metric.endswith("accuracy") else -value
