"""From the run folders of a study to its summary: read, not remembered, so it can be made again."""

import statistics
from typing import Any

from bnzoo import environment
from bnzoo.config import BASELINE, Config
from bnzoo.runs import StudyFolder
from bnzoo.studies.statistics import describe, first_epoch_reaching, paired_difference
from bnzoo.studies.verdict import baseline_verdict, study_verdict, variant_verdict

DESCRIBED = ("test_accuracy", "test_loss", "first_epoch_loss", "seconds_per_epoch")


def summarize(
    folder: StudyFolder, config: Config, status: str, name: str, command: str
) -> dict[str, Any]:
    """Return the content of a study's `summary.json`.

    Args:
        folder: the study's folder; its runs are read.
        config: the study's configuration.
        status: `"completed"` or `"interrupted"`.
        name: what the study is called.
        command: the command that runs it again.
    """
    seeds = config.compare.seeds
    found = {
        variant: [_Run(folder, variant, seed) for seed in seeds]
        for variant in config.compare.overrides()
    }
    summaries = [run.summary for runs in found.values() for run in runs if run.summary]
    variants = {
        variant: {"overrides": overrides, **_numbers(found[variant], found[BASELINE])}
        for variant, overrides in config.compare.overrides().items()
    }
    for variant, entry in variants.items():
        entry["verdict"] = (
            baseline_verdict(entry)
            if variant == BASELINE
            else variant_verdict(variant, entry, variants[BASELINE])
        )
    return {
        "kind": "study",
        "status": status,
        "name": name,
        "command": command,
        "protocol": protocol(summaries),
        "metric": "test accuracy",
        "baseline": BASELINE,
        "seeds": list(seeds),
        "config": config.model_dump(mode="json"),
        **origin(summaries),
        "variants": variants,
        "verdict": study_verdict(variants, status),
    }


class _Run:
    """What one run folder says; a run that has not ended says nothing yet.

    Attributes:
        summary: the run's own, or None when it has not ended.
        is_completed: whether it has a result.
        rows: its history, when it has ended.
    """

    def __init__(self, study: StudyFolder, variant: str, seed: int):
        folder = study.run(variant, seed)
        self.seed, self.place = seed, folder.path.relative_to(study.path).as_posix()
        ended = folder.has_ended()
        self.summary = folder.summary() if ended else None
        self.rows = folder.history() if ended else []
        self.is_completed = ended and self.summary["status"] == "completed"

    def entry(self) -> dict[str, Any]:
        """Return the run as it stands in the study's summary."""
        summary = self.summary or {}
        test, best = summary.get("test") or {}, summary.get("best") or {}
        return {
            "seed": self.seed,
            "status": summary.get("status", "missing"),
            "folder": self.place,
            "test_accuracy": test.get("accuracy"),
            "test_loss": test.get("loss"),
            "best": best.get("row"),
            "selection_metric": best.get("metric"),
            "final": summary.get("final"),
            "first_epoch_loss": self.rows[0]["loss"] if self.rows else None,
            "epochs": summary.get("epochs"),
            "seconds_per_epoch": (
                statistics.median(row["seconds"] for row in self.rows) if self.rows else None
            ),
            "diverged": summary.get("diverged"),
        }

    def epochs_to(self, baseline: "_Run") -> int | None:
        """Return the first epoch as good as the best of the baseline with the same seed."""
        if not (self.is_completed and baseline.is_completed):
            return None
        best, metric = baseline.summary["best"], self.summary["best"]["metric"]
        if metric != best["metric"]:
            return None  # training accuracy is not to be compared with validation accuracy
        return first_epoch_reaching(self.rows, metric, best["row"][metric])

    def steps(self, epochs: int | None) -> int | None:
        """Return how many steps so many of its epochs are."""
        steps_per_epoch = epochs and self.summary["steps"] // self.summary["epochs"]
        return epochs and epochs * steps_per_epoch


def _numbers(runs: list[_Run], baseline: list[_Run]) -> dict[str, Any]:
    entries = [run.entry() for run in runs]
    described = {
        key: describe(
            [
                entry[key] if run.is_completed else None
                for run, entry in zip(runs, entries, strict=True)
            ]
        )
        for key in DESCRIBED
    }
    epochs = [one.epochs_to(other) for one, other in zip(runs, baseline, strict=True)]
    steps = [run.steps(count) for run, count in zip(runs, epochs, strict=True)]
    target = describe([_best_accuracy(run) for run in baseline])["mean"]
    is_baseline = runs is baseline
    theirs = [other.entry()["test_accuracy"] for other in baseline]
    ours = described["test_accuracy"]["values"]
    return {
        "runs": entries,
        **described,
        "epochs_to_baseline_best": {"target": target, **describe(epochs)},
        "steps_to_baseline_best": {"target": target, **describe(steps)},
        "difference": None if is_baseline else paired_difference(ours, theirs).summary(),
        "diverged": sum(entry["status"] == "diverged" for entry in entries),
    }


def _best_accuracy(run: _Run) -> float | None:
    if not run.is_completed:
        return None
    best = run.summary["best"]
    return best["row"][best["metric"]]


def origin(summaries: list[dict]) -> dict[str, Any]:
    """Return where the numbers come from: the runs' own words, as some may be made elsewhere.

    `origins` has every combination, when there is more than one.
    """
    here = {"versions": environment.versions(), "machine": environment.machine(), "device": []}
    origins = [{key: summary[key] for key in here} for summary in summaries]
    distinct = [one for number, one in enumerate(origins) if one not in origins[:number]]
    first = distinct[0] if distinct else here
    return {**first, "origins": distinct} if len(distinct) > 1 else first


def protocol(summaries: list[dict]) -> str:
    """Return how the runs measured, in their own words."""
    return "; or ".join(dict.fromkeys(summary["protocol"] for summary in summaries))
