"""What TensorBoard shows of a run: curves, the config as hyperparameters, batch norm layers."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bnzoo.config import Config, flat
from bnzoo.layers.finding import batch_norm_layers


def tensorboard_callbacks(
    config: Config, folder: Path, batches: Any
) -> list[keras.callbacks.Callback]:
    """Return the callbacks that a configuration asks for.

    Args:
        config: of the run.
        folder: of its event files.
        batches: training batches (x, y), of which the first is looked at after each epoch where
            `train.watch_batch_norm` is set.
    """
    found: list[keras.callbacks.Callback] = []
    if config.train.tensorboard:
        from tensorboard.plugins.hparams import api as hparams

        found.append(keras.callbacks.TensorBoard(folder, write_graph=False))
        found.append(hparams.KerasCallback(str(folder), hyperparameters(config)))
    if config.train.watch_batch_norm:
        found.append(WatchBatchNorm(folder, batches))
    return found


def hyperparameters(config: Config) -> dict[str, bool | int | float | str]:
    """Return a run's config by dotted path, as TensorBoard's HParams takes it."""
    leaves = flat(config.model_dump(mode="json", exclude={"compare", "tune"}))
    return {
        path: value if isinstance(value, bool | int | float | str) else str(value)
        for path, value in leaves.items()
    }


def write_experiment(config: Config, folder: Path, keys: Iterable[str]) -> None:
    """Tell HParams which keys a study or a sweep varies, so that its table has only these.

    Args:
        config: of the study or the sweep.
        folder: of the event file, beside the folder with the runs; left alone if it is there.
        keys: dotted paths, also of whole sections.
    """
    if folder.exists() or not config.train.tensorboard:
        return
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hparams

    keys = tuple(keys)
    paths = [
        path
        for path in hyperparameters(config)
        if any(path == key or path.startswith(f"{key}.") for key in keys)
    ]
    group = "train" if config.data.validation == "none" else "validation"
    with tf.summary.create_file_writer(str(folder)).as_default():
        hparams.hparams_config(
            hparams=[hparams.HParam(path) for path in paths],
            metrics=[
                hparams.Metric(f"epoch_{name}", group=group, display_name=f"{group} {name}")
                for name in dict.fromkeys((config.train.main_metric, "loss"))
            ],
        )


class WatchBatchNorm(keras.callbacks.Callback):
    """Writes histograms of every batch normalization layer after each epoch.

    Per layer: `moving_mean`, `moving_variance`, `gamma` and `beta` where it has them; and
    `batch_mean` and `batch_variance`, of the first training batch as the layer meets it in training
    mode. Training goes on as if nobody had looked: moving statistics and random numbers are put
    back.
    """

    def __init__(self, folder: str | Path, batches: Any):
        super().__init__()
        self._folder = str(Path(folder) / "batch_norm")
        self._batches = batches
        self._writer = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Take the batch that is looked at after each epoch."""
        import tensorflow as tf

        self._inputs = next(iter(self._batches))[0]
        self._layers = list(batch_norm_layers(self.model))
        self._writer = tf.summary.create_file_writer(self._folder)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write the histograms of this epoch."""
        import tensorflow as tf

        inputs = self._inputs_of_layers()
        with self._writer.as_default(step=epoch):
            for layer in self._layers:
                for name, values in _statistics(layer, *inputs[layer.path]):
                    tf.summary.histogram(f"{layer.path}/{name}", values)
        self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Close the event file."""
        self._writer.close()

    def _inputs_of_layers(self) -> dict[str, tuple[Any, Any]]:
        """Return what each layer is given in training mode, with its mask, by its path."""
        found: dict[str, tuple[Any, Any]] = {}
        before = [
            keras.ops.convert_to_numpy(variable) for variable in self.model.non_trainable_variables
        ]
        for layer in self._layers:
            layer.call = _recording(layer, found)
        try:
            self.model(self._inputs, training=True)
        finally:
            for layer in self._layers:
                del layer.call  # the class's own is there again
            for variable, value in zip(self.model.non_trainable_variables, before, strict=True):
                variable.assign(value)
        return found


def _recording(layer: keras.layers.Layer, found: dict[str, tuple[Any, Any]]) -> Any:
    call = layer.call

    def record(inputs, training=None, mask=None):
        found[layer.path] = inputs, mask
        return call(inputs, training=training, mask=mask)

    return record


def _statistics(layer: keras.layers.Layer, x: Any, mask: Any) -> Iterator[tuple[str, np.ndarray]]:
    for name in ("moving_mean", "moving_variance", "gamma", "beta"):
        if getattr(layer, name) is not None:
            yield name, keras.ops.convert_to_numpy(getattr(layer, name))
    rows = np.moveaxis(np.asarray(keras.ops.convert_to_numpy(x), np.float64), layer.axis, -1)
    rows = (
        rows.reshape(-1, rows.shape[-1]) if mask is None else rows[keras.ops.convert_to_numpy(mask)]
    )
    yield "batch_mean", rows.mean(axis=0)
    yield "batch_variance", rows.var(axis=0)
