"""Studies of tiny networks that watch their training, for the tests."""

import json

import keras

from bnzoo import config
from bnzoo.studies import compare

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
