"""How long TensorFlow keeps what a run has traced: no longer than the run."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from bnzoo.ops import forget_functions
from bnzoo.versions import private

KEPT = "Memory grows with each run of a study or a sweep."


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
