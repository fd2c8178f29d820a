"""The report of a study: one page that opens without a network, and its figures as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnzoo.config import as_yaml
from bnzoo.files import write_atomically
from bnzoo.reporting import formatting
from bnzoo.reporting.classification import Evaluation, evaluation_parts
from bnzoo.reporting.curves import curve_pictures
from bnzoo.reporting.page import Picture, metadata, render
from bnzoo.reporting.series import read_runs
from bnzoo.reporting.variants import variant_picture
from bnzoo.reporting.weight_trajectories import trajectory_pictures
from bnzoo.runs import StudyFolder, best_run
from bnzoo.runs.metrics import goodness, judged_by

Summary = dict[str, Any]
MOST_CURVES = 7  # variants in one figure that can be told apart: there are as many marks


def write_study_report(
    folder: Path,
    summary: Summary,
    evaluation: Evaluation | None = None,
    watched: Sequence[Picture] = (),
) -> None:
    """Write `report.html` and `figures/*.png` of a study; equal input gives equal files.

    Args:
        folder: the study's folder, with the run folders that `summary` names.
        summary: the content of the study's `summary.json`, of a completed or interrupted study.
        evaluation: of its best run, to be shown too.
        watched: drawings of what the study watched during its runs.
    """
    study = StudyFolder(folder)
    variants = [
        read_runs(study.path, name, variant["runs"])
        for name, variant in summary["variants"].items()
    ]
    baseline, metric = summary["variants"][summary["baseline"]], judged_by(summary)
    target = baseline["epochs_to_baseline_best"]["target"]
    has_rows = any(len(run.values("loss")) for item in variants for run in item.runs)
    page = render(
        "study.html.j2",
        summary=summary,
        missing=_missing(summary),
        watched=watched,
        watched_rows=_watched_rows(summary),
        outcome=variant_picture(study.figures, summary, metric) if _has_outcome(summary) else None,
        curves=curve_pictures(study.figures, variants, summary)
        if has_rows and len(variants) <= MOST_CURVES
        else [],
        has_rows=has_rows,
        trajectories=trajectory_pictures(study.figures, variants),
        rows=[_row(name, variant, metric) for name, variant in summary["variants"].items()],
        metric=formatting.metric(metric),
        is_share=formatting.is_share(metric),
        others=[formatting.metric(key) for key in _others(baseline, metric)],
        target=formatting.score({"mean": target}, metric),
        best=best_run_sentence(summary),
        evaluation=evaluation and evaluation[0] and evaluation_parts(study.figures, *evaluation),
        diverged=_diverged(summary),
        metadata=metadata(summary, variants),
        overrides={name: as_yaml(item["overrides"]) for name, item in summary["variants"].items()},
        config=as_yaml(summary["config"]),
    )
    write_atomically(study.report_file, page)


def _has_outcome(summary: Summary) -> bool:
    """Tell whether to draw what the variants came to, which a few of them say in the table."""
    return "claim" in summary or len(summary["variants"]) > MOST_CURVES


def best_run_sentence(summary: Summary) -> str:
    """Say which run stands for a study and how it was chosen; empty where there is none.

    Returns:
        For example `"after seed 1: after has the highest mean test accuracy, and of its runs seed 1
        the best validation accuracy"`.
    """
    best = best_run(summary) if summary["status"] == "completed" else None
    if not best:
        return ""
    variant, run = best
    is_steady = not summary["variants"][variant]["diverged"]
    has_others = any(one["diverged"] for one in summary["variants"].values())
    never = " of the variants that never diverged" if is_steady and has_others else ""
    metric, key = formatting.metric(run["selection_metric"]), judged_by(summary)
    chosen = f", and of its runs seed {run['seed']} the best {metric}"
    end = "highest" if goodness(key, 1) > 0 else "lowest"
    return (
        f"{formatting.run_name(variant, run['seed'])}: {variant} has the {end} mean "
        f"{formatting.metric(key)}{never}{chosen if len(summary['seeds']) > 1 else ''}"
    )


def _watched_rows(summary: Summary) -> dict[str, list[str]]:
    """Return the numbers that a study made of what it watched: a row per variant."""
    numbers = summary.get("study", {}).get("numbers", ())
    return {
        name: [formatting.significant(variant[number]) for number in numbers]
        for name, variant in summary["variants"].items()
        if numbers
    }


def _diverged(summary: Summary) -> list[str]:
    """Name each run that diverged, and where."""
    return [
        f"{name}: {formatting.divergence(run['diverged'])}."
        for name, run in _runs(summary, "diverged").items()
    ]


def _missing(summary: Summary) -> str:
    """Say which runs an interrupted study lacks; empty when it lacks none."""
    names = list(_runs(summary, "missing"))
    if not names:
        return ""
    total = sum(len(variant["runs"]) for variant in summary["variants"].values())
    return f"{len(names)} of {total} runs are missing: {', '.join(names)}."


def _runs(summary: Summary, status: str) -> dict[str, dict[str, Any]]:
    return {
        formatting.run_name(name, run["seed"]): run
        for name, variant in summary["variants"].items()
        for run in variant["runs"]
        if run["status"] == status
    }


def _others(variant: dict[str, Any], metric: str) -> list[str]:
    """Return the keys of what the test measured besides what the variants are judged by."""
    return [key for key in variant if key.startswith("test_") and key != metric]


def _row(name: str, variant: dict[str, Any], metric: str) -> dict[str, Any]:
    runs = variant["runs"]
    completed = sum(run["status"] == "completed" for run in runs)
    steps = variant["steps_to_baseline_best"]
    return {
        "name": name,
        "score": formatting.score(variant[metric], metric),
        "seeds": {
            f"seed {run['seed']}": formatting.score({"mean": run[metric]}, metric)
            if run["status"] == "completed"
            else run["status"]
            for run in runs
        },
        "difference": _difference(variant["difference"], metric),
        "epochs": formatting.reached(variant["epochs_to_baseline_best"], completed),
        "steps": f"{steps['mean']:,.0f} steps" if steps["n"] else "",
        "others": {
            formatting.metric(key): formatting.spread(variant[key])
            for key in _others(variant, metric)
        },
        "first_loss": formatting.spread(variant["first_epoch_loss"]),
        "seconds": formatting.spread(variant["seconds_per_epoch"], 2),
    }


def _difference(found: dict[str, Any] | None, metric: str) -> str:
    if not found or found["mean"] is None:
        return formatting.NOTHING
    gain = formatting.change(found["mean"], metric, 2).removesuffix(" points")
    if not found["interval"]:
        return f"{gain} (one seed)"
    return f"{gain} {formatting.interval(*found['interval'], metric, 2)}"
