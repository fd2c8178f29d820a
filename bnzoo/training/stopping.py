"""When a run ends before its last epoch, and which of its epochs was the best."""

import math
from collections.abc import Sequence

import keras

from bnzoo.config.train import EarlyStopping
from bnzoo.runs import RunFolder
from bnzoo.runs.metrics import goodness, main_metric

Row = dict[str, float | None]

TIMES_THE_FIRST = 1e3
"""A batch's loss above this times the first batch's is divergence: training will not recover."""


def selection_metric(rows: Sequence[Row]) -> str:
    """Return the column that decides which epoch is best: that of the validation where measured.

    It is the accuracy, or the loss where no accuracy is measured.
    """
    last = rows[-1] if rows else {"accuracy": None}
    metric = main_metric(last)
    return f"val_{metric}" if last.get(f"val_{metric}") is not None else metric


def best_row(rows: Sequence[Row], metric: str) -> Row | None:
    """Return the first row with the best finite value of `metric`, or None without any.

    Args:
        rows: the history.
        metric: a column; accuracies are maximized, losses minimized.
    """
    best = max(rows, key=lambda row: _score(row, metric), default=None)
    return best if best and math.isfinite(_score(best, metric)) else None


def should_stop(rows: Sequence[Row], stopping: EarlyStopping | None) -> bool:
    """Return whether `stopping.patience` epochs have passed without an improvement.

    It looks at the whole history each time, so a resumed run stops where an undisturbed one does.
    """
    if stopping is None or not rows:
        return False
    scores = [_score(row, stopping.monitor) for row in rows]
    best, waited = scores[0], 0
    for score in scores[1:]:
        if score - stopping.min_delta > best:
            best, waited = score, 0
        else:
            waited += 1
    return waited >= max(stopping.patience, 1)


def _score(row: Row, metric: str) -> float:
    """Return what is to be as large as possible; a missing value or NaN is worse than any."""
    value = row.get(metric)
    if value is None or math.isnan(value):
        return -math.inf
    return goodness(metric, value)


class DivergenceStop(keras.callbacks.Callback):
    """Stop at the first loss that shows divergence, and remember where (`TerminateOnNaN` forgets).

    That the last step ruined the weights shows only in the test loss: `fit.py` looks at that one.

    Args:
        steps_per_epoch: batches in one epoch.
        folder: the run folder, where a resumed run finds the loss of the first batch.

    Attributes:
        diverged: None, or `{"epoch": e, "step": s}`: counted from 1, `step` over the whole run. A
            loss that is finite stands beside them, with the first batch's: `loss`, `first_loss`.
        first_loss: of the run's first batch, once known.
    """

    def __init__(self, steps_per_epoch: int, folder: RunFolder):
        super().__init__()
        self.diverged: dict[str, float] | None = None
        self.first_loss = folder.first_loss()
        self._steps_per_epoch, self._folder = steps_per_epoch, folder
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        """Remember the epoch, for the count of steps."""
        self._epoch, self._total = epoch, 0.0

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss of this batch; Keras gives the mean over the epoch so far."""
        mean = float(logs["loss"])
        # All batches but the last of an epoch have one size, so the loss of one batch follows from
        # the means. A smaller last batch counts too little: it may go unnoticed, never stop a run.
        total = mean * (batch + 1)
        loss, self._total = total - self._total, total
        if not math.isfinite(mean):
            self._stop(batch + 1, None)
        elif batch == 0 and self._epoch == 0:
            self.first_loss = loss
            self._folder.keep_first_loss(self.first_loss)
        elif (self.first_loss or 0) > 0 and loss > TIMES_THE_FIRST * self.first_loss:
            self._stop(batch + 1, loss)  # of losses below 0, multiples say nothing

    def on_epoch_end(self, epoch, logs=None):
        """Look at the validation loss: the last update may have ruined the weights."""
        if self.diverged is None and not math.isfinite(logs.get("val_loss", 0.0)):
            self._stop(self._steps_per_epoch, None)

    def _stop(self, step: int, loss: float | None) -> None:
        step += self._epoch * self._steps_per_epoch
        self.diverged = {"epoch": self._epoch + 1, "step": step}
        if loss is not None:
            self.diverged |= {"loss": loss, "first_loss": self.first_loss}
        self.model.stop_training = True
