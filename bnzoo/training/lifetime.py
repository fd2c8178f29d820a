"""How long TensorFlow keeps what a run has traced: no longer than the run."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from bnzoo.ops import forget_functions


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
    # Not public; tests/test_training_lifetime.py fails should it change.
    from tensorflow.python.framework import ops

    registered = ops.gradient_registry._registry
    before = set(registered)
    try:
        yield
    finally:
        for name in set(registered) - before:
            if name.startswith("CustomGradient"):
                del registered[name]
        forget_functions()
