"""The settings of Keras and TensorFlow that hold for the length of a run."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from bnzoo.config import Config
from bnzoo.ops import forget_functions
from bnzoo.saving import dtype_policy
from bnzoo.versions import private

STAYS = "Determinism stays switched on after the run."
KEPT = "Memory grows with each run of a study or a sweep."


@contextmanager
def run_settings(config: Config) -> Iterator[None]:
    """Set seeds, precision and determinism; put the last two back and let graphs go afterwards."""
    keras.utils.set_random_seed(config.seed)
    with (
        _determinism(config.train.deterministic),
        dtype_policy(config.train.precision),
        gradients_let_go(),
    ):
        yield


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    if not wanted or keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    # What asks for it and switches it off is not public.
    home = "tensorflow.python.framework.config"
    disable = private(home, "disable_op_determinism", STAYS)
    is_enabled = disable and private(home, "is_op_determinism_enabled", STAYS)
    stays = is_enabled is None or is_enabled()
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if not stays:
            disable()


@contextmanager
def gradients_let_go() -> Iterator[None]:
    """Let go of the graphs of what is trained inside, once it has been trained.

    TensorFlow registers the gradient of each `tf.custom_gradient` in a table of the process from
    which nothing is ever removed, and each gradient holds the graph of its trace. There is one in
    every training step, in the sum of the gradients over replicas that Keras' optimizers ask for,
    and one in every batch normalization. A sweep would keep the graphs of all its runs: 11 MB for
    each of a small network, and garbage collections that take longer with each.

    What has been traced inside can still be called afterwards, but not be differentiated again.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    registry = private("tensorflow.python.framework.ops", "gradient_registry", KEPT)
    registered = (registry and private(registry, "_registry", KEPT)) or {}
    before = set(registered)
    try:
        yield
    finally:
        for name in set(registered) - before:
            if name.startswith("CustomGradient"):
                del registered[name]
        forget_functions()


def devices() -> list[str]:
    """Return the names of the devices that Keras computes on, say `["gpu:0"]`."""
    # Asked for one kind that is not there, JAX raises; so ask for all.
    found = keras.distribution.list_devices()
    return [name for name in found if name.startswith("gpu")] or found


def start_afresh() -> None:
    """Let go of the models and graphs of earlier runs, which Keras would keep.

    It also starts the counters of names and seeds again: the fifth run of a process is then the
    run that it would be in a process of its own.
    """
    with dtype_policy(keras.config.dtype_policy()):
        keras.backend.clear_session(free_memory=False)
    gc.collect()  # what Keras would do too, a second time
