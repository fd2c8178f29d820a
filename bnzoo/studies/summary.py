"""From the run folders of a study to its summary: read, not remembered, so it can be made again."""

import statistics
from collections import Counter
from typing import Any, NamedTuple

from bnzoo import environment
from bnzoo.config import Config
from bnzoo.errors import plural
from bnzoo.runs import StudyFolder
from bnzoo.runs.metrics import main_metric
from bnzoo.studies.claims import claim_lines, judge
from bnzoo.studies.statistics import (
    describe,
    first_epoch_reaching,
    paired_difference,
    study_verdict,
    variant_verdict,
)
from bnzoo.studies.watching.results import add_watched

DESCRIBED = ("first_epoch_loss", "seconds_per_epoch")


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
    seeds, overrides = config.compare.seeds, config.compare.overrides()
    baseline, claim = config.compare.baseline_name, config.compare.claim
    runs = {name: [_read_run(folder, name, seed) for seed in seeds] for name in overrides}
    summaries = [run.summary for found in runs.values() for run in found if run.summary]
    tested = list(dict.fromkeys(key for one in summaries for key in one["test"] or ()))
    tested = tested or list(dict.fromkeys(["loss", config.train.main_metric]))
    main = main_metric(tested)
    variants = {
        variant: {"overrides": overrides[variant], **_numbers(found, runs[baseline], tested)}
        for variant, found in runs.items()
    }
    watched, unwatched = add_watched(variants, folder, config)
    for variant, entry in variants.items():
        entry["verdict"] = variant_verdict(
            variant, entry, variants[baseline], f"test_{main}", baseline
        )
    problems = (
        f"problem ({variant}): {'; '.join(one['title'] for one in entry['findings'])}. The report "
        "says more."
        for variant, entry in variants.items()
        if entry["findings"]
    )
    note = "\n".join([*problems, *unwatched])
    judged = claim and judge(claim, variants, f"test_{main}", _num_classes(summaries))
    verdict = [study_verdict(variants, status, f"test_{main}"), note]
    verdict += claim_lines(judged) if judged else []
    return {
        "kind": "study",
        "status": status,
        "name": name,
        "command": command,
        "protocol": protocol(summaries),
        "metric": f"test {main}",
        "baseline": baseline,
        "seeds": list(seeds),
        "config": config.model_dump(mode="json"),
        **watched,
        **origin(summaries),
        "variants": variants,
        "note": note,
        **({"claim": judged} if judged else {}),
        "verdict": "\n".join(filter(None, verdict)),
    }


def _num_classes(summaries: list[dict[str, Any]]) -> int | None:
    return next((len(one["data"]["class_names"]) for one in summaries), 0) or None


def shared_findings(summaries: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return what was found wrong with batch normalization, once each.

    Args:
        summaries: of runs; what has not ended or is of an earlier version says nothing.

    Returns:
        `kind`, `title` and `line`, in the words of the first run and with how many runs have it.
    """
    found = [one for summary in summaries for one in summary.get("findings", ())]
    first = {one["kind"]: one for one in reversed(found)}
    counts = Counter(one["kind"] for one in found)
    total = plural(sum("findings" in summary for summary in summaries), "run")
    return [
        first[kind] | {"line": f"{first[kind]['line']} (In {count} of {total}.)"}
        for kind, count in counts.items()
    ]


class _Run(NamedTuple):
    """What one run folder says; a run that has not ended says nothing yet."""

    entry: dict[str, Any]  # as it stands in the study's summary
    summary: dict[str, Any]
    rows: list[dict[str, float | None]]

    @property
    def best_value(self) -> float | None:
        """The metric that selects epochs at the best epoch; None where the run has no result."""
        if self.entry["status"] != "completed":
            return None
        return self.entry["best"][self.entry["selection_metric"]]


def _read_run(study: StudyFolder, variant: str, seed: int) -> _Run:
    folder = study.run(variant, seed)
    ended = folder.has_ended()
    summary, rows = (folder.summary(), folder.history()) if ended else ({}, [])
    test, best = summary.get("test") or {}, summary.get("best") or {}
    entry = {
        "seed": seed,
        "status": summary.get("status", "missing"),
        "folder": folder.path.relative_to(study.path).as_posix(),
        **{f"test_{name}": value for name, value in test.items()},
        "best": best.get("row"),
        "selection_metric": best.get("metric"),
        "final": summary.get("final"),
        "first_epoch_loss": rows[0]["loss"] if rows else None,
        "epochs": summary.get("epochs"),
        "steps": summary.get("steps"),
        "seconds_per_epoch": statistics.median(row["seconds"] for row in rows) if rows else None,
        "diverged": summary.get("diverged"),
    }
    return _Run(entry, summary, rows)


def _numbers(runs: list[_Run], baseline: list[_Run], tested: list[str]) -> dict[str, Any]:
    def measured(found: list[_Run], key: str) -> list[float | None]:
        entries = [run.entry for run in found]
        return [entry.get(key) if entry["status"] == "completed" else None for entry in entries]

    epochs = [_epochs_to_best(run, other) for run, other in zip(runs, baseline, strict=True)]
    steps = [
        count and count * (run.summary["steps"] // run.summary["epochs"])
        for run, count in zip(runs, epochs, strict=True)
    ]
    target = describe([run.best_value for run in baseline])["mean"]
    ours, theirs = (measured(found, f"test_{main_metric(tested)}") for found in (runs, baseline))
    difference = None if runs is baseline else paired_difference(ours, theirs).summary()
    return {
        "runs": [run.entry for run in runs],
        **{f"test_{name}": describe(measured(runs, f"test_{name}")) for name in tested},
        **{key: describe(measured(runs, key)) for key in DESCRIBED},
        "epochs_to_baseline_best": {"target": target, **describe(epochs)},
        "steps_to_baseline_best": {"target": target, **describe(steps)},
        "difference": difference,
        "diverged": sum(run.entry["status"] == "diverged" for run in runs),
        "findings": shared_findings([run.summary for run in runs]),
    }


def _epochs_to_best(run: _Run, baseline: _Run) -> int | None:
    """Return the first epoch as good as the best of the baseline with the same seed."""
    metric = run.entry["selection_metric"]
    # Training accuracy is not to be compared with validation accuracy.
    is_comparable = metric == baseline.entry["selection_metric"]
    if not is_comparable or None in (run.best_value, baseline.best_value):
        return None
    return first_epoch_reaching(run.rows, metric, baseline.best_value)


def origin(summaries: list[dict]) -> dict[str, Any]:
    """Return where the numbers come from: the runs' own words, as some may be made elsewhere.

    `origins` has every combination, when there is more than one.
    """
    here = {"versions": environment.versions(), "machine": environment.machine(), "device": []}
    origins = [{key: summary[key] for key in here} for summary in summaries]
    distinct = [one for number, one in enumerate(origins) if one not in origins[:number]] or [here]
    return distinct[0] | ({"origins": distinct} if len(distinct) > 1 else {})


def protocol(summaries: list[dict]) -> str:
    """Return how the runs measured, in their own words."""
    return "; or ".join(dict.fromkeys(summary["protocol"] for summary in summaries))
