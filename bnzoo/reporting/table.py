"""The rows of a study's table, and the sentences on runs that diverged or are missing."""

from typing import Any

from bnzoo.reporting import formatting

COMPLETED, DIVERGED, MISSING = "completed", "diverged", "missing"


def table_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one mapping of texts per variant, the baseline first."""
    return [_row(summary, name, variant) for name, variant in summary["variants"].items()]


def target_text(summary: dict[str, Any]) -> str:
    """Return the accuracy that counts as reached, say `94.63 %`; empty where there is none."""
    times = summary["variants"][summary["baseline"]].get("epochs_to_baseline_best") or {}
    target = times.get("target")
    return formatting.percent(target) if isinstance(target, int | float) else ""


def diverged_sentences(summary: dict[str, Any]) -> list[str]:
    """Name each run that diverged, and where."""
    return [
        f"{formatting.run_name(name, run['seed'])}: {formatting.divergence(run['diverged'])} "
        f"at step {run['diverged']['step']:,} (epoch {run['diverged']['epoch']})."
        for name, run in _runs(summary, DIVERGED)
    ]


def missing_sentence(summary: dict[str, Any]) -> str:
    """Say which runs an interrupted study lacks; empty when it lacks none."""
    missing = [formatting.run_name(name, run["seed"]) for name, run in _runs(summary, MISSING)]
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
        "accuracy": formatting.percent_spread(variant["test_accuracy"]),
        "seeds": [{"seed": run["seed"], "value": _seed_value(run)} for run in runs],
        "difference": _difference(variant["difference"]),
        "epochs": formatting.reached(variant["epochs_to_baseline_best"], completed),
        "steps": _steps(variant["steps_to_baseline_best"]),
        "test_loss": formatting.spread(variant["test_loss"]),
        "first_loss": formatting.spread(variant["first_epoch_loss"]),
        "seconds": formatting.spread(variant["seconds_per_epoch"], 2),
        "diverged": f"{variant['diverged']} of {len(runs)}" if variant["diverged"] else "none",
    }


def _difference(found: dict[str, Any] | None) -> str:
    if not found or found["mean"] is None:
        return formatting.NOTHING
    gain = formatting.change(found["mean"], "accuracy", 2).removesuffix(" points")
    if not found["interval"]:
        return f"{gain} (one seed)"
    return f"{gain} {formatting.interval(*found['interval'], 'accuracy', 2)}"


def _steps(times: dict[str, Any]) -> str:
    return f"{times['mean']:,.0f} steps" if times["n"] else ""


def _seed_value(run: dict[str, Any]) -> str:
    if run["status"] == COMPLETED:
        return formatting.percent(run["test_accuracy"])
    return run["status"]
