"""The callback that looks at a model while it trains and writes down what it sees."""

import keras

from bnzoo import data
from bnzoo.files import RowFile
from bnzoo.runs import RunFolder
from bnzoo.studies.watching.study import Row, Study


class WatchTraining(keras.callbacks.Callback):
    """Write the rows of a study into `watched.csv`, those of an epoch together at its end.

    A killed run so has the rows of its complete epochs, as its checkpoint has their weights. A look
    after the last step of an epoch comes at its end, behind callbacks that change statistics.

    Args:
        study: what is watched.
        model: the built model.
        splits: the data of the run.
        folder: the run folder.
        epochs_done: complete epochs of a resumed run.
    """

    def __init__(
        self,
        study: Study,
        model: keras.Model,
        splits: "data.Splits",
        folder: RunFolder,
        epochs_done: int,
    ):
        super().__init__()
        self._study, self._look = study, study.begin(model, splits)
        self._folder, self._epochs_done = folder, epochs_done
        self._steps_per_epoch, self._epoch = splits.steps_per_epoch, 0

    def on_train_begin(self, logs=None):
        """Open the file, drop the rows that will be measured again, and look at a new model."""
        columns = ["epoch", "step", *self._look.columns]
        self._file = RowFile(self._folder.watched_file, columns, self._epochs_done or -1)
        if not self._epochs_done:
            self._file.append(*self._rows(0))

    def on_epoch_begin(self, epoch, logs=None):
        """Begin with no rows."""
        self._epoch, self._steps, self._of_epoch = epoch + 1, 0, []

    def on_train_batch_end(self, batch, logs=None):
        """Look where it is due."""
        self._steps = batch + 1
        if self._steps < self._steps_per_epoch:
            self._of_epoch += self._rows(self._step)

    def on_epoch_end(self, epoch, logs=None):
        """Write the epoch's rows down."""
        if self._steps == self._steps_per_epoch:
            self._of_epoch += self._rows(self._step)
        self._file.append(*self._of_epoch)

    @property
    def _step(self) -> int:
        return (self._epoch - 1) * self._steps_per_epoch + self._steps

    def _rows(self, step: int) -> list[Row]:
        if not self._study.is_due(step, self._steps_per_epoch):
            return []
        if hasattr(self.model, "jax_state_sync"):  # JAX trains copies of the weights
            self.model.jax_state_sync()
        place = {"epoch": self._epoch, "step": step}
        return [place | row for row in self._look.measure(step)]
