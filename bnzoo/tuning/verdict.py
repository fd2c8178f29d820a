"""The sentences at the top of a sweep's report. They follow from the summary's numbers alone."""

from typing import Any

from bnzoo.reporting import formatting

Summary = dict[str, Any]


def best_words(best: dict[str, Any], metric: str) -> str:
    """Say what was best and how good it was.

    Args:
        best: the best trial's entry.
        metric: the objective's name.
    """
    values = ", ".join(f"{_end(path)} {value}" for path, value in best["values"].items())
    return f"{values}: {formatting.metric(metric)} {formatting.score(best['scores'], metric)}"


def sweep_verdict(summary: Summary) -> str:
    """Return the sentences for the top of the report."""
    if not summary["best"]:
        text = _without_best(summary)
    else:
        parts = [f"Best is {summary['best']['words']}.", _against(summary), _stable(summary)]
        text = " ".join(part for part in parts if part)
    return text if summary["status"] == "completed" else f"Not finished. So far: {text}"


def _without_best(summary: Summary) -> str:
    if not summary["trials"] or summary["status"] != "completed":
        return "No trial has a result yet."
    if any(trial["status"] == "unmeasured" for trial in summary["trials"]):
        return f"No trial has a {formatting.metric(summary['objective']['name'])}."
    return "Every trial diverged."


def _against(summary: Summary) -> str:
    """Compare the best placement with the others, best against best."""
    metric, best = summary["objective"]["name"], summary["best"]["placement"]
    texts = []
    for one in summary["comparisons"]:
        left, right = one["placements"]
        if best not in (left, right):
            continue
        difference = one["difference"] if best == left else formatting.negated(one["difference"])
        other = right if best == left else left
        scores = formatting.score(summary["placements"][other]["best"]["scores"], metric)
        texts.append(f"{other} ({scores}) {formatting.gain(difference, metric)}")
    return f"Difference to the best of {', of '.join(texts)}." if texts else ""


def _stable(summary: Summary) -> str:
    rates = {
        name: entry["largest_stable_rate"]
        for name, entry in summary["placements"].items()
        if entry["trials"]
    }
    if not any(rates.values()):
        return ""
    shown = (f"{name}: {f'{rate:g}' if rate else 'no rate'}" for name, rate in rates.items())
    return f"Largest stable learning rate by placement: {', '.join(shown)}."


def _end(path: str) -> str:
    return path.rpartition(".")[2].replace("_", " ")
