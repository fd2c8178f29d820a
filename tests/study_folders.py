"""Synthetic studies for the report's tests: run folders and a summary, without any training."""

import math
import statistics

import numpy as np

from bnzoo.files import RowFile
from bnzoo.runs import HISTORY_COLUMNS

WEIGHTS = ("conv_3/kernel[1,0,4,3]", "conv_3/kernel[1,0,8,3]")
VARIANTS = {  # first loss, decay, last accuracy, noise of the accuracy
    "baseline": (2.12, 0.55, 0.945, 0.035),
    "before": (0.6, 0.28, 0.991, 0.003),
    "after": (0.7, 0.30, 0.985, 0.004),
}


def make_study(folder, seeds=(0, 1, 2), epochs=30, variants=VARIANTS, diverged=(), missing=()):
    """Write the run folders and return the summary.

    `diverged` and `missing` are collections of (variant, seed); a diverged run ends at epoch 4.
    """
    runs = {
        name: [
            _make_run(folder, name, seed, epochs, variants[name], diverged, missing)
            for seed in seeds
        ]
        for name in variants
    }
    config = {
        "seed": 0,
        "data": {"name": "devanagari_digits", "batch_size": 32, "validation": "test"},
        "model": {"name": "three_conv", "placement": "before", "batch_norm": {"momentum": 0.9}},
        "train": {"epochs": epochs, "optimizer": {"name": "sgd", "learning_rate": 0.001}},
        "compare": {"baseline": {"model.placement": "none"}, "seeds": list(seeds)},
    }
    return {
        "kind": "study",
        "status": "interrupted" if missing else "completed",
        "name": "three_conv_devanagari",
        "command": "bnzoo compare configs/three_conv_devanagari.yaml --out runs/three_conv",
        "protocol": "published protocol: the test set is measured after each epoch, as validation",
        "metric": "test accuracy",
        "baseline": "baseline",
        "seeds": list(seeds),
        "config": config,
        "versions": {"python": "3.12.1", "bnzoo": "0.1.0", "tensorflow": "2.21.0"},
        "machine": {"cpu": "A processor", "cores": 2, "system": "Linux"},
        "device": ["CPU"],
        "variants": {name: _variant(name, found, runs["baseline"]) for name, found in runs.items()},
        "verdict": "before: its verdict. after: its verdict.",
    }


def _make_run(folder, name, seed, epochs, shape, diverged, missing):
    run = {"seed": seed, "status": "completed", "folder": f"runs/{name}/seed-{seed}"}
    empty = ("test_accuracy", "test_loss", "best", "selection_metric", "final",
             "first_epoch_loss", "epochs", "seconds_per_epoch", "diverged")  # fmt: skip
    run |= dict.fromkeys(empty)
    if (name, seed) in missing:
        return run | {"status": "missing"}
    rows, path = _rows(name, seed, epochs, shape, (name, seed) in diverged)
    target = folder / run["folder"]
    target.mkdir(parents=True)
    _write(target / "history.csv", HISTORY_COLUMNS, rows)
    _write(target / "weights_path.csv", ("epoch", "loss", *WEIGHTS), path)
    if (name, seed) in diverged:
        return run | {"status": "diverged", "epochs": 4, "diverged": {"epoch": 4, "step": 1801}}
    return run | {
        "test_accuracy": rows[-1]["val_accuracy"],
        "test_loss": rows[-1]["val_loss"],
        "best": max(rows, key=lambda row: row["val_accuracy"]),
        "selection_metric": "val_accuracy",
        "final": rows[-1],
        "first_epoch_loss": rows[0]["loss"],
        "epochs": len(rows),
        "seconds_per_epoch": 4.0 + 0.1 * seed,
    }


def _rows(name, seed, epochs, shape, diverges):
    first, decay, last, noise = shape
    random = np.random.default_rng([seed, len(name)])
    rows, path, weights = [], [], np.array([0.05, -0.02])
    for epoch in range(1, epochs + 1):
        loss = first * math.exp(-decay * (epoch - 1) ** 0.6) * random.uniform(0.92, 1.08)
        accuracy = last - 0.18 * math.exp(-0.5 * epoch) - noise * random.uniform(0, 1)
        if diverges:
            loss = (first, 3.0, 4e7, math.nan)[epoch - 1]
            accuracy = (0.4, 0.2, 0.1, 0.1)[epoch - 1]
        weights = weights + random.normal(0.004, 0.002, 2) * (1 if name == "baseline" else -3)
        rows.append(
            {"epoch": epoch, "loss": loss, "accuracy": accuracy, "val_loss": loss * 1.2,
             "val_accuracy": accuracy, "learning_rate": 0.001, "seconds": 4.0 + 0.1 * seed}
        )  # fmt: skip
        path.append({"epoch": epoch, "loss": loss} | dict(zip(WEIGHTS, weights, strict=True)))
        if diverges and epoch == 4:
            break
    return rows, path


def _write(path, columns, rows):
    file = RowFile(path, columns, keep_epochs=0)
    file.rows.extend({key: _plain(value) for key, value in row.items()} for row in rows[:-1])
    file.append({key: _plain(value) for key, value in rows[-1].items()})


def _plain(value):
    return float(value) if isinstance(value, np.floating) else value


def _variant(name, runs, baseline):
    values = _statistics([run["test_accuracy"] for run in runs])
    pairs = [
        (run["test_accuracy"], other["test_accuracy"])
        for run, other in zip(runs, baseline, strict=True)
        if run["test_accuracy"] is not None and other["test_accuracy"] is not None
    ]
    difference = _statistics([left - right for left, right in pairs])
    if difference["n"] > 1:
        half = 4.303 * difference["std"] / math.sqrt(difference["n"])
        difference |= {"interval": [difference["mean"] - half, difference["mean"] + half]}
    times = {"target": 0.9463, "values": [3, 4, 3], "mean": 3.3333, "n": 3}
    return {
        "overrides": {"model.placement": "none" if name == "baseline" else name},
        "runs": runs,
        "test_accuracy": values,
        "test_loss": _statistics([run["test_loss"] for run in runs]),
        "first_epoch_loss": _statistics([run["first_epoch_loss"] for run in runs]),
        "seconds_per_epoch": _statistics([run["seconds_per_epoch"] for run in runs]),
        "epochs_to_baseline_best": times,
        "steps_to_baseline_best": times | {"mean": 1774.0},
        "difference": None
        if name == "baseline"
        else {"interval": None, "level": 0.95} | difference,
        "diverged": sum(run["status"] == "diverged" for run in runs),
        "verdict": f"{name}: its verdict.",
    }


def _statistics(values):
    measured = [value for value in values if value is not None]
    return {
        "n": len(measured),
        "mean": statistics.fmean(measured) if measured else None,
        "std": statistics.stdev(measured) if len(measured) > 1 else None,
        "values": values,
    }
