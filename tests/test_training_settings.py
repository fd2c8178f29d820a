"""The graphs of a run go with it: TensorFlow's table of gradients, which is not public, is cut."""

import gc
import weakref

import keras
import pytest
import tensorflow as tf
from keras import ops

from bnzoo import config
from bnzoo.training import start_afresh, train
from bnzoo.training.settings import gradients_let_go

TREE = {
    "data": {"name": "digits", "validation": 0.2, "batch_size": 256},
    "model": {"name": "dense", "units": [8], "placement": "before"},
    "train": {"epochs": 1, "optimizer": {"name": "sgd"}, "tensorboard": False},
}


def traced():
    """Trace a function with a gradient of its own, and return its graph."""

    @ops.custom_gradient
    def double(x):
        return 2 * x, lambda *upstream: 3 * upstream[0]

    return tf.function(double).get_concrete_function(tf.TensorSpec([3])).graph


def test_tensorflow_keeps_a_graph_with_a_gradient_unless_it_is_let_go():
    """The first half is why the second is there: without a leak, remove our cut."""
    kept = weakref.ref(traced())
    with gradients_let_go():
        gone = weakref.ref(traced())
    gc.collect()
    assert kept() is not None
    assert gone() is None


def test_gradients_of_others_stay():
    graph = traced()
    with gradients_let_go():
        traced()
    with graph.as_default():
        (gradient,) = tf.gradients(graph.outputs[0], graph.inputs[0])
    assert gradient.op.type == "Mul"


def graphs():
    return [one for one in gc.get_objects() if isinstance(one, tf.__internal__.FuncGraph)]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_no_graph_of_a_run_is_left_after_it(tmp_path, jit_compile):
    tree = {**TREE, "train": {**TREE["train"], "jit_compile": jit_compile}}
    before, seen = weakref.WeakSet(graphs()), weakref.WeakSet()

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.update(graphs())
            assert "one_step_on_data" in {graph.name for graph in set(seen) - set(before)}

    train(config.validate(tree, source="test"), tmp_path / "run", callbacks=[Look()])
    start_afresh()
    assert not set(seen) - set(before)
