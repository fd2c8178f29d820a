"""The lines at the top of a sweep's report. They follow from the summary's numbers alone."""

from typing import Any

from bnzoo.reporting import formatting

Summary = dict[str, Any]

OPTIMISTIC = (
    "Such differences are optimistic: each side is the best of its trials by these same scores."
)
STABLE = (
    "Stable: no trial with it diverged, and one was within 5 points of the placement's best on "
    "each seed."
)
LONGEST = "Only the trials with the most epochs of their placement can show a rate to be stable."


def sweep_verdict(summary: Summary) -> str:
    """Return the top of the report, one sentence per line."""
    if not summary["best"]:
        texts = [_without_best(summary)]
    else:
        texts = [f"Best is {summary['best']['words']}.", *filter(None, [summary["note"]])]
        if summary["importance"]:
            texts.append(summary["importance"]["text"])
        texts += [*_differences(summary), *_stable(summary)]
        if len(summary["seeds"]) == 1:
            texts.append("One seed a trial: none of this is settled.")
    return "\n".join(
        texts if summary["status"] == "completed" else ["Not finished. So far:", *texts]
    )


def best_words(best: dict[str, Any], metric: str) -> str:
    """Say which trial was best and how good it was.

    Args:
        best: the best trial's entry.
        metric: the objective's name.
    """
    score = formatting.score(best["scores"], metric)
    return f"{best['trial']}: {formatting.metric(metric)} {score}"


def _without_best(summary: Summary) -> str:
    if not summary["trials"] or summary["status"] != "completed":
        return "No trial has a result yet."
    if any(trial["status"] == "unmeasured" for trial in summary["trials"]):
        return f"No trial has a {formatting.metric(summary['objective']['name'])}."
    return "Every trial diverged."


def _differences(summary: Summary) -> list[str]:
    """Compare the best placement with the others, best trial against best trial."""
    texts = [
        f"Against the best of {one['placements'][1]}: {one['text']}."
        for one in summary["comparisons"]
        if one["placements"][0] == summary["best"]["placement"]
    ]
    if texts and any(entry["trials"] > 1 for entry in summary["placements"].values()):
        texts.append(OPTIMISTIC)
    return texts


def _stable(summary: Summary) -> list[str]:
    shown = [
        f"{name}: {formatting.stable_rate(entry)}"
        for name, entry in summary["placements"].items()
        if entry["rates_tried"] > 1
    ]
    if not shown:
        return []
    longest = [LONGEST] if summary["algorithm"] == "hyperband" else []
    return [f"Largest stable learning rate, {'; '.join(shown)}.", STABLE, *longest]
