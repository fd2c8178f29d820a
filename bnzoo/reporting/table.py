"""The rows of a study's table, and the sentences on runs that diverged or are missing."""

from typing import Any

from bnzoo.reporting import words

COMPLETED, DIVERGED, MISSING = "completed", "diverged", "missing"


def table_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one mapping of texts per variant, the baseline first."""
    return [_row(summary, name, variant) for name, variant in summary["variants"].items()]


def target_text(summary: dict[str, Any]) -> str:
    """Return the accuracy that counts as reached, say `94.63 %`; empty where there is none."""
    times = summary["variants"][summary["baseline"]].get("epochs_to_baseline_best") or {}
    target = times.get("target")
    return words.percent(target) if isinstance(target, int | float) else ""


def diverged_sentences(summary: dict[str, Any]) -> list[str]:
    """Name each run that diverged, and where."""
    return [
        f"{name}, seed {run['seed']}: {words.divergence(run['diverged'])} at step "
        f"{run['diverged']['step']:,} (epoch {run['diverged']['epoch']})."
        for name, run in _runs(summary, DIVERGED)
    ]


def missing_sentence(summary: dict[str, Any]) -> str:
    """Say which runs an interrupted study lacks; empty when it lacks none."""
    missing = [f"{name} seed {run['seed']}" for name, run in _runs(summary, MISSING)]
    total = sum(len(variant["runs"]) for variant in summary["variants"].values())
    if not missing:
        return ""
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    return f"{len(missing)} of {total} runs are missing: {', '.join(missing[:8])}{more}."


def _runs(summary: dict[str, Any], status: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, run)
        for name, variant in summary["variants"].items()
        for run in variant["runs"]
        if run["status"] == status
    ]


def _row(summary: dict[str, Any], name: str, variant: dict[str, Any]) -> dict[str, Any]:
    runs = variant["runs"]
    completed = sum(run["status"] == COMPLETED for run in runs)
    return {
        "name": name,
        "accuracy": words.percent_spread(variant["test_accuracy"]),
        "seeds": [{"seed": run["seed"], "value": _seed_value(run)} for run in runs],
        "difference": words.points(variant["difference"]),
        "epochs": words.reached(variant["epochs_to_baseline_best"], completed),
        "steps": _steps(variant["steps_to_baseline_best"]),
        "test_loss": words.spread(variant["test_loss"]),
        "first_loss": words.spread(variant["first_epoch_loss"]),
        "seconds": words.spread(variant["seconds_per_epoch"], 2),
        "diverged": f"{variant['diverged']} of {len(runs)}" if variant["diverged"] else "none",
    }


def _steps(times: dict[str, Any]) -> str:
    return f"{times['mean']:,.0f} steps" if times["n"] else ""


def _seed_value(run: dict[str, Any]) -> str:
    if run["status"] == COMPLETED:
        return words.percent(run["test_accuracy"])
    return run["status"]
