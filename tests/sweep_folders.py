"""Synthetic sweeps for the report's tests: run folders and a summary, without any training."""

import itertools
import math

from bnzoo.files import RowFile
from bnzoo.runs import HISTORY_COLUMNS
from bnzoo.studies.statistics import describe, paired_difference, sentence
from bnzoo.tuning.importance import key_importance
from bnzoo.tuning.verdict import best_words, sweep_verdict

RATE, PLACEMENT = "train.optimizer.learning_rate", "model.placement"
RATES = (0.0001, 0.0004642, 0.002154, 0.01, 0.04642, 0.2154, 1.0)
BEST_AT = {"none": 0.03, "before": 0.2, "after": 0.1}  # each placement's best rate
DIVERGES_FROM = {"none": 0.2, "before": 2.0, "after": 0.9}


def make_sweep(folder, rates=RATES, placements=BEST_AT, seeds=(0, 1), metric="val_accuracy"):
    """Write the run folders and return the summary; the highest rates diverge."""
    direction = "max" if metric.endswith("accuracy") else "min"
    trials = [
        _make_trial(folder, f"{number:04d}", rate, placement, seeds, metric)
        for number, (rate, placement) in enumerate(itertools.product(rates, placements))
    ]
    entries = {name: _placement(trials, name, direction) for name in placements}
    found = [entry["best"] for entry in entries.values() if entry["best"]]
    choose = max if direction == "max" else min
    best = choose(found, key=lambda one: one["score"], default=None)
    summary = {
        "kind": "sweep",
        "status": "completed",
        "name": "tune_three_conv",
        "command": "bnzoo tune configs/tune_three_conv.yaml --out runs/tune_three_conv",
        "algorithm": "grid",
        "objective": {"name": metric, "direction": direction},
        "seeds": list(seeds),
        "protocol": "validation on 0.1 of the training set; the test set was read once, at the end",
        "config": {
            "data": {"name": "devanagari_digits", "validation": 0.1},
            "model": {"name": "three_conv", "placement": "before"},
            "train": {"epochs": 3},
        },
        "versions": {"python": "3.12.1", "bnzoo": "0.1.0"},
        "machine": {"cpu": "A processor", "cores": 2, "system": "Linux"},
        "device": ["cpu:0"],
        "trials": trials,
        "placements": entries,
        "comparisons": _comparisons(entries, metric, direction),
        "best": best and {**best, "words": best_words(best, metric)},
        "chosen_by": "the highest score",
        "importance": key_importance(trials, direction),
        "note": "",
    }
    return {**summary, "verdict": sweep_verdict(summary)}


def make_trials(points, score, seeds=(0,), epochs=None):
    """Return a summary's trials without folders, for sweeps over any keys.

    Args:
        points: the values of each trial, by path.
        score: returns the score of values and a seed, None for a run that diverged.
        seeds: of each trial.
        epochs: of each trial, as in hyperband.
    """
    trials = []
    for number, values in enumerate(points):
        scores = [score(values, seed) for seed in seeds]
        has_diverged = None in scores
        trials.append({
            "values": values,
            "epochs": epochs and epochs[number],
            "status": "diverged" if has_diverged else "completed",
            "score": -1e9 if has_diverged else sum(scores) / len(scores),
            "runs": [{"seed": seed, "score": one} for seed, one in zip(seeds, scores, strict=True)],
        })  # fmt: skip
    return trials


def _make_trial(folder, number, rate, placement, seeds, metric):
    has_diverged = rate >= DIVERGES_FROM.get(placement, 9)
    runs = [_make_run(folder, number, rate, placement, s, metric, has_diverged) for s in seeds]
    return {
        "trial": f"learning_rate {rate:g}, placement {placement}",
        "values": {RATE: rate, PLACEMENT: placement},
        "epochs": None,
        "placement": placement,
        "status": "diverged" if has_diverged else "completed",
        "score": -1e9 if has_diverged else sum(run["score"] for run in runs) / len(runs),
        "runs": runs,
    }


def _make_run(folder, number, rate, placement, seed, metric, has_diverged):
    off = abs(math.log10(rate / BEST_AT.get(placement, 0.1)))
    accuracy = 0.98 - 0.2 * off - 0.01 * seed
    rows = [
        {"epoch": epoch, "loss": 2.3 - accuracy * epoch / 2, "accuracy": accuracy * epoch / 2,
         "val_loss": 2.3 - accuracy * epoch / 2, "val_accuracy": accuracy * epoch / 2,
         "learning_rate": rate, "seconds": 4.0}
        for epoch in (1, 2)
    ]  # fmt: skip
    run = {"seed": seed, "status": "completed", "folder": f"runs/{number}/seed-{seed}"}
    run |= {"score": rows[-1][metric], "accuracy": accuracy, "test_accuracy": accuracy - 0.01}
    run |= {"epochs": 2, "seconds": 8.0, "diverged": None}
    if has_diverged:
        where = {"epoch": 1, "step": 7, "loss": 9000.0, "first_loss": 2.3}
        rows = rows[:1]
        run |= {"status": "diverged", "score": None, "accuracy": None, "test_accuracy": None}
        run |= {"epochs": 1, "diverged": where}
    path = folder / run["folder"]
    path.mkdir(parents=True)
    file = RowFile(path / "history.csv", HISTORY_COLUMNS, keep_epochs=0)
    for row in rows:
        file.append(row)
    return run


def _placement(trials, name, direction):
    mine = [trial for trial in trials if trial["placement"] == name]
    completed = [trial for trial in mine if trial["status"] == "completed"]
    choose = max if direction == "max" else min
    rates = [trial["values"][RATE] for trial in mine if RATE in trial["values"]]
    best = choose(completed, key=lambda trial: trial["score"], default=None)
    return {
        "trials": len(mine),
        "diverged": len(mine) - len(completed),
        "best": best and _best(best),
        "rates_tried": len(mine),
        "largest_stable_rate": best["values"][RATE] if best else None,
        "next_rate_tried": min(
            (r for r in rates if best and r > best["values"][RATE]), default=None
        ),
    }


def _best(trial):
    return {
        "trial": trial["trial"],
        "placement": trial["placement"],
        "values": trial["values"],
        "score": trial["score"],
        "scores": describe([run["score"] for run in trial["runs"]]),
        "test_accuracy": describe([run["test_accuracy"] for run in trial["runs"]]),
        "seed": trial["runs"][0]["seed"],
        "folder": trial["runs"][0]["folder"],
    }


def _comparisons(entries, metric, direction):
    found = [entry["best"] for entry in entries.values() if entry["best"]]
    found.sort(key=lambda one: one["score"], reverse=direction == "max")
    return [_comparison(*pair, metric) for pair in itertools.combinations(found, 2)]


def _comparison(better, other, metric):
    values = [one["scores"]["values"] for one in (better, other)]
    difference = paired_difference(*values)
    return {
        "placements": [better["placement"], other["placement"]],
        "difference": difference.summary(),
        "text": sentence(difference, metric),
    }
