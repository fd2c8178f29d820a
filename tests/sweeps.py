"""Small sweeps that tests run: their configs, and what two of them have in common."""

import csv

from bnzoo import config
from bnzoo.tuning.sweep import Hooks, tune

RATE, PLACEMENT = "train.optimizer.learning_rate", "model.placement"
TREE = {
    "data": {"name": "digits", "validation": 0.2, "batch_size": 256},
    "model": {"name": "dense", "units": [8]},
    "train": {
        "epochs": 1,
        "optimizer": {"name": "sgd"},
        "tensorboard": False,
        "jit_compile": False,  # compiling takes longer than these few steps
        "deterministic": True,
    },
    "tune": {
        "algorithm": "grid",
        "objective": {"name": "val_accuracy", "direction": "max"},
        "space": {RATE: [0.01, 1.0], PLACEMENT: ["none", "before"]},
    },
}
TIMES = ("seconds",)


def make_config(train=(), data=(), model=(), **tune):
    """Return the checked configuration of a sweep; `tune` replaces keys of its section."""
    tree = {**TREE, "tune": {**TREE["tune"], **tune}}
    tree["train"], tree["data"] = {**TREE["train"], **dict(train)}, {**TREE["data"], **dict(data)}
    tree["model"] = dict(model) or TREE["model"]
    return config.validate(tree, source="test")


def sweep(checked, out, **arguments):
    """Run a sweep without the report, which takes longer than these runs."""
    hooks = {key: arguments.pop(key) for key in ("begin_run", "end_trial") if key in arguments}
    return tune(checked, out, hooks=Hooks(**hooks), report=False, **arguments)


def rows(folder):
    """Return `trials.csv`, without what differs from time to time."""
    with folder.trials_file.open(newline="") as file:
        found = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in TIMES} for row in found]
