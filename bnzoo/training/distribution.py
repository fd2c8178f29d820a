"""The replicas of a run (`train.distribute`): what is divided among them, what they agree on."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import keras
import numpy as np
from keras import tree

from bnzoo import data
from bnzoo.errors import InputError, plural
from bnzoo.layers import BatchNormalization
from bnzoo.layers.finding import batch_norm_layers
from bnzoo.training.keras_steps import distribute_steps
from bnzoo.workers.cluster import cluster_for

Result = TypeVar("Result")
MOST_BYTES = 2048  # of a message from worker to worker


class Replicas:
    """All that trains one model: this process as it is, its devices, or several processes.

    Args:
        distribute: `train.distribute` of the config. With `multi_worker` it waits for all others.

    Attributes:
        cluster: this process and the others.
        strategy: of `tf.distribute`; None where nothing is distributed.
        count: of replicas, over all processes.

    Raises:
        InputError: the backend cannot do it, `TF_CONFIG` names no cluster, or TensorFlow has begun
            to compute before it knew of the others.
    """

    def __init__(self, distribute: str = "none"):
        self.cluster, self.strategy, self.count = cluster_for(distribute), None, 1
        if distribute != "none":
            self.strategy = _strategy(distribute)
            self.count = self.strategy.num_replicas_in_sync

    @property
    def is_distributed(self) -> bool:
        """Whether there is a strategy, be it of one replica."""
        return self.strategy is not None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.cluster.is_chief

    def describe(self) -> dict[str, int] | None:
        """Return what a resumed run must have again, JSON-able; None: nothing is distributed."""
        if not self.is_distributed:
            return None
        return {"processes": self.cluster.num_workers, "replicas": self.count}

    def scope(self) -> contextlib.AbstractContextManager:
        """Return where models are made or loaded."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def check_data(self, splits: "data.Splits", batch: tuple) -> None:
        """Check that batches can be divided.

        Args:
            splits: of the run.
            batch: the first of its training.

        Raises:
            InputError: they cannot, or other workers have other data.
        """
        if not self.is_distributed:
            return
        parts = (splits.train, splits.validation, splits.test)
        if any(isinstance(part, keras.utils.PyDataset) for part in parts):
            raise InputError(
                f"train.distribute: expected arrays or a tf.data.Dataset to divide among replicas, "
                f"got a PyDataset from {splits.name}. Return one of these, or set none."
            )
        size = len(tree.flatten(batch)[0])
        if size < self.count:
            raise InputError(
                f"data.batch_size: expected an example for each of {self.count} replicas, got "
                f"{size}. It is that of one step over all of them: raise it."
            )

    def share(self, batches: Any) -> Any:
        """Return batches as `fit` takes them: where there are replicas, divided among them."""
        if not self.is_distributed or batches is None:
            return batches
        from bnzoo.data.shares import share_batches

        return share_batches(self.strategy, batches)

    def unsynchronized(self, model: keras.Model) -> str:
        """Return a line on batch normalization that is not ours, or sees shares of batches only."""
        layers = [
            one
            for one in batch_norm_layers(model)
            if not (one.synchronized and isinstance(one, BatchNormalization))
        ]
        if not layers or self.count == 1:
            return ""
        are = "is" if len(layers) == 1 else "are"
        return (
            f"Batch normalization: {plural(len(layers), 'layer')} of the model {are} Keras' or not "
            "synchronized: of a replica's share of a batch, or less exact. In the function that "
            "builds it, bnzoo.replace_batch_norm(model, synchronized=True) takes the whole batch."
        )

    def prepare(self, model: keras.Model, batch: tuple) -> None:
        """Let `fit` and `evaluate` of a compiled model take what `share` returns.

        Args:
            model: made in `scope`.
            batch: one whole batch.
        """
        if self.is_distributed:
            distribute_steps(model, batch, self.cluster.num_workers)

    # --- agreement -------------------------------------------------------------------------------

    def together(self, action: Callable[[], Result]) -> Result:
        """Do something on each worker, and go on only if it went well on all.

        Returns:
            What the action returned here.

        Raises:
            InputError: of the action here; or the first worker's with one.
        """
        result, failure = None, None
        try:
            result = action()
        except InputError as error:
            failure = error
        messages = self._gather(str(failure or ""))
        if failure:
            raise failure
        for worker, message in enumerate(messages):
            if message:
                raise InputError(f"worker {worker}: {message}")
        return result

    def check_same(self, what: str, text: str) -> None:
        """Check that all workers have one text.

        Raises:
            InputError: they have not.
        """
        for worker, other in enumerate(self._gather(text)):
            if other != text:
                raise InputError(
                    f"{what}: expected the same on all workers, got {text} on worker "
                    f"{self.cluster.worker} and {other} on worker {worker}. Start all of them with "
                    "the same command, files and data."
                )

    def _gather(self, text: str) -> list[str]:
        """Return the texts of all workers, in their order."""
        cluster = self.cluster
        if cluster.num_workers == 1:
            return [text]
        import tensorflow as tf

        letters = np.frombuffer(text.encode()[:MOST_BYTES], np.uint8)
        rows = np.zeros((cluster.num_workers, MOST_BYTES), np.int32)
        rows[cluster.worker, : len(letters)] = letters
        here = self.count // cluster.num_workers

        def mine(context: Any) -> Any:
            is_first = context.replica_id_in_sync_group % here == 0
            return tf.constant(rows if is_first else np.zeros_like(rows))

        values = self.strategy.experimental_distribute_values_from_function(mine)
        found = self.strategy.reduce("SUM", values, axis=None).numpy().astype(np.uint8)
        return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in found]


def description(replicas: Replicas, devices: list[str]) -> str:
    """Say in a few words on what a run computes."""
    if not replicas.is_distributed:
        return ", ".join(devices)
    processes = replicas.cluster.num_workers
    where = f"in {processes} processes" if processes > 1 else f"({', '.join(devices)})"
    return f"{plural(replicas.count, 'replica')} {where}"


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> Any:
    """Return the one strategy of these devices; another would number its exchanges alike.

    TensorFlow takes exchanges of one number for the same, and fails where their shapes differ.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices)


def _strategy(distribute: str) -> Any:
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"train.distribute: expected none on {keras.backend.backend()}, got {distribute}: its "
            "replicas are those of tf.distribute. Set KERAS_BACKEND=tensorflow, or none."
        )
    import tensorflow as tf

    if distribute == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return _mirrored(tuple(device.name for device in devices))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise InputError(
            "train.distribute: expected multi_worker in a process that has computed nothing yet, "
            "as that of `bnzoo train`, got one that has. Run that command, or create the "
            f"strategy first. TensorFlow says: {error}"
        ) from error
