"""From the run folders of a sweep to its summary: read, not remembered."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from bnzoo.config import Config
from bnzoo.config.tune import PLACEMENT, RATE
from bnzoo.runs import SweepFolder
from bnzoo.studies.statistics import describe, paired_difference
from bnzoo.studies.summary import origin, protocol
from bnzoo.tuning.score import run_score, trial_score
from bnzoo.tuning.trial import Trial, read_trials
from bnzoo.tuning.verdict import best_words, sweep_verdict

STABLE_WITHIN = 0.05
"""Each seed of a stable rate is within these 5 points of its placement's best mean accuracy."""

Entry = dict[str, Any]


def summarize(
    folder: SweepFolder, config: Config, status: str, name: str, command: str
) -> dict[str, Any]:
    """Return the content of a sweep's `summary.json`.

    Args:
        folder: the sweep's; its state and its runs are read.
        config: its configuration.
        status: `"completed"` or `"interrupted"`.
        name: what the sweep is called.
        command: the command that runs it again.
    """
    tune, seeds = config.tune, config.tune.seeds_from(config.seed)
    found = [state.trial for state in read_trials(folder, config)]
    trials = [_trial_entry(folder, config, trial, seeds) for trial in found]
    ended = [run.pop("summary") for trial in trials for run in trial["runs"]]
    summaries = [summary for summary in ended if summary]
    placements = _placements(trials, config)
    best = _better([entry["best"] for entry in placements.values() if entry["best"]], config)
    summary = {
        "kind": "sweep",
        "status": status,
        "name": name,
        "command": command,
        "algorithm": tune.algorithm,
        "objective": tune.objective.model_dump(),
        "seeds": list(seeds),
        "protocol": protocol(summaries),
        "config": config.model_dump(mode="json"),
        **origin(summaries),
        "trials": trials,
        "placements": placements,
        "comparisons": _comparisons(placements),
        "best": best and {**best, "words": best_words(best, tune.objective.name)},
    }
    return {**summary, "verdict": sweep_verdict(summary)}


def _trial_entry(
    folder: SweepFolder, config: Config, trial: Trial, seeds: Sequence[int]
) -> dict[str, Any]:
    runs = [_run_entry(folder, config, trial, seed) for seed in seeds]
    status, scores = _trial_status(runs), [run["score"] for run in runs]
    has_score = status in ("completed", "diverged")
    return {
        "trial": trial.number,
        "values": trial.values,
        "epochs": trial.epochs,
        "placement": trial.values.get(PLACEMENT, config.model.placement),
        "status": status,
        "score": trial_score(scores, config.tune.objective) if has_score else None,
        "runs": runs,
    }


def _trial_status(runs: list[Entry]) -> str:
    """Return `completed`, or the first that is true of `missing`, `diverged` and `unmeasured`.

    A run that completed without the objective is no divergence, though it has no score either.
    """
    statuses = [run["status"] for run in runs]
    if "missing" in statuses:
        return "missing"
    if "diverged" in statuses:
        return "diverged"
    return "unmeasured" if any(run["score"] is None for run in runs) else "completed"


def _run_entry(folder: SweepFolder, config: Config, trial: Trial, seed: int) -> dict[str, Any]:
    run = folder.run(trial.name, seed)
    summary = run.summary() if run.has_ended() else None
    known = summary or {}
    best = known.get("best") or {}
    return {
        "seed": seed,
        "status": known.get("status", "missing"),
        "score": run_score(run, config.tune.objective) if summary else None,
        "accuracy": best["row"][best["metric"]] if known.get("status") == "completed" else None,
        "test_accuracy": (known.get("test") or {}).get("accuracy"),
        "epochs": known.get("epochs"),
        "seconds": known.get("seconds"),
        "diverged": known.get("diverged"),
        "folder": run.path.relative_to(folder.path).as_posix(),
        "summary": summary,
    }


def _placements(trials: list[Entry], config: Config) -> dict[str, Entry]:
    """Return what each placement reached, in the order in which the config names them."""
    order = config.tune.space.get(PLACEMENT, (config.model.placement,))
    return {
        placement: _placement([t for t in trials if t["placement"] == placement], config)
        for placement in order
    }


def _placement(trials: list[Entry], config: Config) -> Entry:
    completed = [trial for trial in trials if trial["status"] == "completed"]
    best = _better(completed, config)
    return {
        "trials": len(trials),
        "diverged": sum(trial["status"] == "diverged" for trial in trials),
        "best": best and _best_entry(best, config),
        "largest_stable_rate": _largest_stable_rate(trials, config),
    }


def _better(trials: list[Entry], config: Config) -> Entry | None:
    """Return the first trial with the best score."""
    choose = max if config.tune.objective.direction == "max" else min
    return choose(trials, key=lambda trial: trial["score"], default=None)


def _best_entry(trial: Entry, config: Config) -> Entry:
    choose = max if config.tune.objective.direction == "max" else min
    run = choose(trial["runs"], key=lambda run: run["score"])
    return {
        "trial": trial["trial"],
        "placement": trial["placement"],
        "values": trial["values"],
        "score": trial["score"],
        "scores": describe([run["score"] for run in trial["runs"]]),
        "test_accuracy": describe([run["test_accuracy"] for run in trial["runs"]]),
        "seed": run["seed"],
        "folder": run["folder"],
    }


def _largest_stable_rate(trials: list[Entry], config: Config) -> float | None:
    """Return the largest rate with which the trials of a placement are stable.

    No trial with it diverged, whatever else was searched, in however few epochs; and every seed of
    one of them is near the placement's best mean accuracy. Of hyperband's rounds, those with the
    most epochs that the placement came to count for a rate: a shorter one only speaks against it.
    """
    completed = [trial for trial in trials if trial["status"] == "completed"]
    if RATE not in config.tune.space or not completed:
        return None
    means = [describe([run["accuracy"] for run in t["runs"]])["mean"] for t in completed]
    least = max(means) - STABLE_WITHIN
    longest = max(trial["epochs"] or 0 for trial in completed)
    good = [
        trial
        for trial in completed
        if (trial["epochs"] or 0) == longest
        and all(run["accuracy"] >= least for run in trial["runs"])
    ]
    return max(_rates(good) - _rates(t for t in trials if _has_diverged(t)), default=None)


def _rates(trials: Iterable[Entry]) -> set[float]:
    return {trial["values"][RATE] for trial in trials if RATE in trial["values"]}


def _has_diverged(trial: Entry) -> bool:
    """Tell it of a trial with runs still to come too."""
    return any(run["status"] == "diverged" for run in trial["runs"])


def _comparisons(placements: dict[str, Entry]) -> list[Entry]:
    """Compare the best of each placement with the best of those before it, seed by seed."""
    found = {name: entry["best"]["scores"] for name, entry in placements.items() if entry["best"]}
    return [
        {
            "placements": [later, earlier],
            "difference": paired_difference(
                found[later]["values"], found[earlier]["values"]
            ).summary(),
        }
        for earlier, later in itertools.combinations(found, 2)
    ]
