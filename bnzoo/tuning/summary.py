"""From the run folders of a sweep to its summary: read, not remembered."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from bnzoo.config import Config
from bnzoo.config.tune import PLACEMENT, RATE
from bnzoo.reporting import formatting
from bnzoo.runs import SweepFolder
from bnzoo.studies.statistics import describe, paired_difference, sentence
from bnzoo.studies.summary import origin, protocol, shared_findings
from bnzoo.tuning.importance import key_importance
from bnzoo.tuning.trials import Trial, read_trials, run_score, trial_score
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
    objective = tune.objective.name
    found = [state.trial for state in read_trials(folder, config)]
    trials = [_trial_entry(folder, config, trial, seeds) for trial in found]
    ended = [run.pop("summary") for trial in trials for run in trial["runs"]]
    summaries = [summary for summary in ended if summary]
    # In the order in which the config names them.
    placements = {
        placement: _placement([t for t in trials if t["placement"] == placement], config)
        for placement in tune.space.get(PLACEMENT, (config.model.placement,))
    }
    ranked = _ranked([entry["best"] for entry in placements.values() if entry["best"]], config)
    summary = {
        "kind": "sweep",
        "status": status,
        "name": name,
        "command": command,
        "algorithm": tune.algorithm,
        "objective": tune.objective.model_dump(),
        "metric": config.train.main_metric,
        "seeds": list(seeds),
        "protocol": protocol(summaries),
        "config": config.model_dump(mode="json"),
        **origin(summaries),
        "trials": trials,
        "placements": placements,
        "comparisons": [
            _comparison(better, other, objective)
            for better, other in itertools.combinations(ranked, 2)
        ],
        "best": {**ranked[0], "words": best_words(ranked[0], objective)} if ranked else None,
        "chosen_by": _chosen_by(config, seeds),
        "note": "\n".join(f"problem: {one['line']}" for one in shared_findings(summaries)),
        "importance": key_importance(trials, tune.objective.direction),
    }
    return {**summary, "verdict": sweep_verdict(summary)}


def _chosen_by(config: Config, seeds: Sequence[int]) -> str:
    objective = config.tune.objective
    end = "highest" if objective.direction == "max" else "lowest"
    mean = f"mean of the seeds {formatting.listed(seeds)}" if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"the {end} {formatting.metric(objective.name)} at the best epoch, {mean}"


def _trial_entry(
    folder: SweepFolder, config: Config, trial: Trial, seeds: Sequence[int]
) -> dict[str, Any]:
    runs = [_run_entry(folder, config, trial, seed) for seed in seeds]
    status, scores = _trial_status(runs), [run["score"] for run in runs]
    has_score = status in ("completed", "diverged")
    return {
        "trial": trial.name,
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
    found = {run["status"] for run in runs}
    found |= {"unmeasured" for run in runs if run["score"] is None}
    return next((one for one in ("missing", "diverged", "unmeasured") if one in found), "completed")


def _run_entry(folder: SweepFolder, config: Config, trial: Trial, seed: int) -> dict[str, Any]:
    run = folder.run(trial.folder, seed)
    has_ended = run.has_ended()
    summary = run.summary() if has_ended else {"status": "missing"}
    best = summary["best"] if summary["status"] == "completed" else None
    metric = config.train.main_metric
    return {
        "seed": seed,
        "status": summary["status"],
        "score": run_score(run, config.tune.objective) if has_ended else None,
        "accuracy": best["row"][best["metric"]] if best and metric == "accuracy" else None,
        f"test_{metric}": (summary.get("test") or {}).get(metric),
        "epochs": summary.get("epochs"),
        "seconds": summary.get("seconds"),
        "diverged": summary.get("diverged"),
        "folder": run.path.relative_to(folder.path).as_posix(),
        "summary": summary if has_ended else None,
    }


def _placement(trials: list[Entry], config: Config) -> Entry:
    completed = [trial for trial in trials if trial["status"] == "completed"]
    ranked = _ranked(completed, config)
    tried = _rates(trial for trial in trials if trial["status"] in ("completed", "diverged"))
    if config.train.main_metric != "accuracy":  # what is stable is told in points of accuracy
        tried = set()
    stable = _largest_stable_rate(trials, config) if tried else None
    return {
        "trials": len(trials),
        "diverged": sum(trial["status"] == "diverged" for trial in trials),
        "best": _best_entry(ranked[0], config) if ranked else None,
        "rates_tried": len(tried),
        "largest_stable_rate": stable,
        "next_rate_tried": min((rate for rate in tried if rate > (stable or 0)), default=None),
    }


def _ranked(entries: list[Entry], config: Config) -> list[Entry]:
    """Return entries with a score from the best to the worst; equal ones stay in order."""
    sign = -1 if config.tune.objective.direction == "max" else 1
    return sorted(entries, key=lambda entry: sign * entry["score"])


def _best_entry(trial: Entry, config: Config) -> Entry:
    run, tested = _ranked(trial["runs"], config)[0], f"test_{config.train.main_metric}"
    return {
        "trial": trial["trial"],
        "placement": trial["placement"],
        "values": trial["values"],
        "score": trial["score"],
        "scores": describe([run["score"] for run in trial["runs"]]),
        tested: describe([run[tested] for run in trial["runs"]]),
        "seed": run["seed"],
        "folder": run["folder"],
    }


def _largest_stable_rate(trials: list[Entry], config: Config) -> float | None:
    """Return the largest rate with which the trials of a placement are stable, of two or more.

    `verdict.STABLE` says what that means; the best is the best mean accuracy. No trial with the
    rate may have diverged, whatever else was searched, in however few epochs. Of hyperband's
    rounds, those with the most epochs that the placement came to count for a rate: a shorter one
    only speaks against it.
    """
    completed = [trial for trial in trials if trial["status"] == "completed"]
    if len(_rates(trials)) < 2 or not completed:
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
    # Of a trial with runs still to come, too.
    diverged = (t for t in trials if any(run["status"] == "diverged" for run in t["runs"]))
    return max(_rates(good) - _rates(diverged), default=None)


def _rates(trials: Iterable[Entry]) -> set[float]:
    return {trial["values"][RATE] for trial in trials if RATE in trial["values"]}


def _comparison(better: Entry, other: Entry, metric: str) -> Entry:
    """Compare the best trials of two placements, seed by seed."""
    difference = paired_difference(better["scores"]["values"], other["scores"]["values"])
    return {
        "placements": [better["placement"], other["placement"]],
        "difference": difference.summary(),
        "text": sentence(difference, metric),
    }
