"""Studies of tiny networks that watch their training, for the tests."""

import json

import keras
import numpy as np
import tensorflow as tf

from bnzoo import config
from bnzoo.studies import compare
from bnzoo.studies.watching import study_of
from bnzoo.training.building import build_for, load_data

TREE = {
    "data": {"name": "digits", "validation": "none", "batch_size": 256},
    "model": {"name": "dense", "units": [8, 6], "activation": "sigmoid"},
    "train": {
        "epochs": 2,
        "optimizer": {"name": "sgd", "learning_rate": 0.3},
        "tensorboard": False,
        "jit_compile": False,  # compiling takes longer than these few steps
        "deterministic": True,  # or two threads may add in another order
    },
    "compare": {
        "baseline": {"model.placement": "none"},
        "variants": {"before": {"model.placement": "before"}},
        "seeds": [3],
    },
}


def watching_config(study, *pairs):
    """Return a config with a study, and with some keys changed."""
    tree = json.loads(json.dumps(TREE))
    tree["compare"]["study"] = study
    return config.validate(config.apply_overrides(tree, pairs), source="test")


def watch(out, study, *pairs, **arguments):
    """Run a study without its report; give `write_report` to have one."""
    arguments = {"write_report": lambda *report: None, **arguments}
    return compare(watching_config(study, *pairs), out, **arguments)


def prepared(study, *pairs):
    """Return a study, and what it is given of a run: model, data, `train` section."""
    settings = watching_config(study, ("seed", 0), *pairs)
    splits = load_data(settings)
    return study_of(settings), build_for(settings, splits), splits, settings.train


def loss_and_gradient(model, weights, batch):
    """Return both at some weights, in training mode, with the statistics put back."""
    kept = model.get_weights()
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)
    with tf.GradientTape() as tape:
        logits = model(batch[0], training=True)
        losses = keras.losses.sparse_categorical_crossentropy(batch[1], logits, from_logits=True)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, [one.value for one in model.trainable_variables])
    model.set_weights(kept)
    return float(loss), [np.asarray(one, "float64") for one in gradients]


class StopIn(keras.callbacks.Callback):
    """Interrupt in the midst of an epoch, counted from 1."""

    def __init__(self, epoch):
        super().__init__()
        self._stop, self._epoch = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch, logs=None):
        if (self._epoch, batch) == (self._stop, 2):
            raise KeyboardInterrupt
