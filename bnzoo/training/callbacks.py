"""What is written down at the end of an epoch: weights, history, checkpoints."""

import contextlib
import time

import keras

from bnzoo import data
from bnzoo.config.train import EarlyStopping, FollowedWeight
from bnzoo.errors import InputError, nearest
from bnzoo.files import RowFile, read_columns
from bnzoo.runs import HISTORY_COLUMNS, RunFolder
from bnzoo.runs.metrics import history_columns
from bnzoo.surgery.recalibrate import CannotRecalibrate, Recalibrate
from bnzoo.training.checkpoints import save_checkpoint
from bnzoo.training.stopping import DivergenceStop, best_row, should_stop


class FollowWeights(keras.callbacks.Callback):
    """Write the value of single weights after each epoch into `weights_path.csv`.

    Args:
        model: the built model; names of layers and weights are checked at once.
        followed: which weights.
        folder: the run folder.
        epochs_done: complete epochs of a resumed run.

    Raises:
        InputError: a layer, weight or index does not exist.
    """

    def __init__(self, model, followed: tuple[FollowedWeight, ...], folder: RunFolder, epochs_done):
        super().__init__()
        self._weights = [(item, find_weight(model, item)) for item in followed]
        self._columns = ["epoch", "loss", *(item.label for item in followed)]
        self._folder, self._epochs_done = folder, epochs_done

    def on_train_begin(self, logs=None):
        """Open the file and drop the rows of epochs that will be run again."""
        self._file = RowFile(self._folder.weights_path_file, self._columns, self._epochs_done)

    def on_epoch_end(self, epoch, logs=None):
        """Add the row of the epoch that ended."""
        values = {
            item.label: float(keras.ops.convert_to_numpy(weight)[item.index])
            for item, weight in self._weights
        }
        self._file.append({"epoch": epoch + 1, "loss": float(logs["loss"]), **values})


def find_weight(model: keras.Model, item: FollowedWeight) -> keras.Variable:
    """Return the weight that holds a followed one.

    Raises:
        InputError: the layer, the weight or the index does not exist.
    """
    where = "train.follow_weights"
    layers = {layer.name: layer for layer in model.layers}
    if item.layer not in layers:
        raise InputError(
            f"{where}: no layer named {item.layer!r} in this model. "
            f"{nearest(item.layer, layers) or 'Its layers: ' + ', '.join(layers) + '.'}"
        )
    weights = {weight.name: weight for weight in layers[item.layer].weights}
    if item.weight not in weights:
        raise InputError(
            f"{where}: layer {item.layer!r} has no weight named {item.weight!r}; "
            f"expected one of {', '.join(weights) or 'none, it has no weights'}."
        )
    shape = tuple(weights[item.weight].shape)
    fits = len(item.index) == len(shape) and all(
        position < size for position, size in zip(item.index, shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"{where}: expected an index inside {item.layer}/{item.weight} of shape "
            f"{list(shape)}, got {list(item.index)}. Indices count from 0."
        )
    return weights[item.weight]


class RecalibrateEpochs(Recalibrate):
    """Recalibrate after each epoch, and leave as it is what cannot be.

    That is a model without batch normalization, such as the baseline of a study, or with frozen
    statistics; or weights that training has ruined, of which the next loss tells.

    Args:
        splits: the run's data.
        num_samples: examples to use.
    """

    def __init__(self, splits: "data.Splits", num_samples: int):
        super().__init__(splits.first_epoch, num_samples, every_epoch=True)

    def update(self) -> None:
        """Recalibrate, if it can be done."""
        with contextlib.suppress(CannotRecalibrate):
            super().update()


class Record(keras.callbacks.Callback):
    """Write each complete epoch down: its row in `history.csv`, then a checkpoint to resume from.

    Args:
        folder: the run folder.
        epochs_done: complete epochs of a resumed run; later rows are dropped.
        divergence: no checkpoint is made of an epoch that diverged.
        stopping: early stopping; its best epoch's checkpoint is kept.
    """

    def __init__(
        self,
        folder: RunFolder,
        epochs_done,
        divergence: DivergenceStop,
        stopping: EarlyStopping | None,
    ):
        super().__init__()
        self._folder, self._divergence, self._stopping = folder, divergence, stopping
        columns = read_columns(folder.history_file) if epochs_done else HISTORY_COLUMNS
        self._file = RowFile(folder.history_file, columns, epochs_done)

    @property
    def rows(self) -> list[dict]:
        """The rows written so far."""
        return self._file.rows

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock and note the rate that the epoch begins with."""
        self._started = time.perf_counter()
        self._learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch, logs=None):
        """Write the row, then the checkpoint: a row without a checkpoint is run again."""
        if not self.rows:  # only now it is known what is measured, and how Keras calls it
            own = self.model.get_metrics_result()  # a callback may have added to the logs
            measured = [name for name in logs if name in own or f"val_{name}" in logs]
            self._file.columns = history_columns(sorted(measured, key="loss".__ne__))
        self._file.append(
            {key: float(value) for key, value in logs.items()}
            | {
                "epoch": epoch + 1,
                "learning_rate": self._learning_rate,
                "seconds": round(time.perf_counter() - self._started, 3),
            }
        )
        if self._divergence.diverged is None:
            self._save(epoch + 1)
        if should_stop(self.rows, self._stopping):
            self.model.stop_training = True

    def _save(self, epochs_done: int) -> None:
        save_checkpoint(self.model, self._folder, epochs_done)
        kept = {epochs_done - 1, epochs_done}  # should the newest be damaged
        if self._stopping:
            kept.add(best_row(self.rows, self._stopping.monitor)["epoch"])
        self._folder.keep_checkpoints(kept)
