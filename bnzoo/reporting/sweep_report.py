"""The report of a sweep: one page that opens without a network, and its figures as PNG."""

from pathlib import Path
from typing import Any

from bnzoo.config import as_yaml
from bnzoo.files import write_atomically
from bnzoo.reporting import formatting
from bnzoo.reporting.curves import curve_pictures
from bnzoo.reporting.page import Picture, drawn, metadata, picture, render
from bnzoo.reporting.series import VariantRuns, read_runs
from bnzoo.reporting.sweep_figures import draw_heat_map, draw_importance, draw_scores
from bnzoo.reporting.sweep_grid import Grid, read_grid
from bnzoo.runs import SweepFolder


def write_sweep_report(folder: Path, summary: dict[str, Any]) -> None:
    """Write `report.html` and `figures/*.png` of a sweep; equal input gives equal files.

    Args:
        folder: the sweep's folder, with the run folders that `summary` names.
        summary: the content of its `summary.json`, of a completed or interrupted sweep.
    """
    sweep = SweepFolder(folder)
    runs = [read_runs(sweep.path, trial["trial"], trial["runs"]) for trial in summary["trials"]]
    best = _best_of_placements(sweep.path, summary)
    grid = read_grid(summary)
    page = render(
        "sweep.html.j2",
        summary=summary,
        pictures=importance_pictures(sweep.figures, summary)
        + (grid_pictures(sweep.figures, grid, summary) if grid else []),
        curves=curve_pictures(sweep.figures, best, summary) if best else [],
        placements=[_placement_row(summary, name) for name in summary["placements"]],
        trials=[_trial_row(summary, trial) for trial in summary["trials"]],
        metric=formatting.metric(summary["objective"]["name"]),
        test_metric=formatting.metric(_tested(summary)),
        metadata=metadata(summary, runs),
        config=as_yaml(summary["config"]),
    )
    write_atomically(sweep.report_file, page)


def grid_pictures(folder: Path, grid: Grid, summary: dict[str, Any]) -> list[Picture]:
    """Draw the scores over the searched key, of a table its cells too, and write both as PNG.

    Args:
        folder: of the figures; made if missing.
        grid: the trials of the sweep.
        summary: the content of its `summary.json`.
    """
    objective, many_seeds = summary["objective"], len(summary["seeds"]) > 1
    is_share = formatting.is_share(objective["name"])
    metric = formatting.metric(objective["name"]).capitalize()
    mean = "the mean over its seeds" if many_seeds else "one seed"
    if grid.is_table and grid.is_number:
        mark, span = f"Line: the best trial at each {grid.key}", "Band"
    else:
        mark, span = "Point: a trial", "Bar"
    seeds = f" {span}: from the lowest to the highest seed." if many_seeds else ""
    figure = drawn(draw_scores, grid, f"{metric} over {grid.key}", is_share)
    described = f"{metric} over {grid.key}, by placement."
    caption = f"{mark}, {mean}.{seeds} Cross: at least one seed diverged."
    pictures = [picture(figure, folder, "rate", described, caption)]
    if grid.is_table:
        title, is_high = f"{metric} at the best epoch", objective["direction"] == "max"
        figure = drawn(draw_heat_map, grid, title, is_share, is_high)
        described = f"{metric} by {grid.key} and placement."
        caption = f"Cell: its best trial, {mean}. Hatched: at least one seed diverged."
        pictures.insert(0, picture(figure, folder, "heat_map", described, caption))
    return pictures


def importance_pictures(folder: Path, summary: dict[str, Any]) -> list[Picture]:
    """Draw which key mattered most, and write it as PNG; nothing where that cannot be told.

    Args:
        folder: of the figures; made if missing.
        summary: the content of the sweep's `summary.json`.
    """
    found = summary["importance"]
    if not found or not found["keys"]:
        return []
    figure = drawn(draw_importance, found["keys"])
    explained = formatting.percent(found["explained"]["share"], 0)
    noise = formatting.percent(found["seed_noise"], 0)
    seeds = "One seed a trial: chance is among the rest."
    if found["seed_noise"] is not None:
        seeds = f"The spread between seeds alone would make {noise}."
    caption = (
        "Bar: how much of the differences between trials comes from the key, alone or together "
        "with others. Line: its 95 % interval; where it holds 0, the key may not matter at all. "
        f"Trials are compared by rank, with diverged runs last. Together the keys explain "
        f"{explained} of the differences. {seeds}"
    )
    return [picture(figure, folder, "importance", found["text"], caption)]


def _best_of_placements(folder: Path, summary: dict[str, Any]) -> list[VariantRuns]:
    found = {name: entry["best"] for name, entry in summary["placements"].items() if entry["best"]}
    trials = {trial["trial"]: trial for trial in summary["trials"]}
    return [read_runs(folder, name, trials[best["trial"]]["runs"]) for name, best in found.items()]


def _placement_row(summary: dict[str, Any], name: str) -> dict[str, Any]:
    entry = summary["placements"][name]
    best = entry["best"]
    return {
        "name": name,
        "score": formatting.score(best and best["scores"], summary["objective"]["name"]),
        "trial": best["trial"] if best else formatting.NOTHING,
        "tested": formatting.score(best and best[_tested(summary)], _tested(summary)),
        "rate": formatting.stable_rate(entry),
        "diverged": f"{entry['diverged']} of {entry['trials']}" if entry["diverged"] else "none",
    }


def _tested(summary: dict[str, Any]) -> str:
    """Return the key of the test's result; sweeps of earlier versions had the accuracy only."""
    return f"test_{summary.get('metric', 'accuracy')}"


def _trial_row(summary: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": trial["trial"],
        "seeds": [{"seed": run["seed"], "value": _value(summary, run)} for run in trial["runs"]],
        "seconds": f"{sum(run['seconds'] or 0 for run in trial['runs']):.1f}",
    }


def _value(summary: dict[str, Any], run: dict[str, Any]) -> str:
    if run["status"] == "diverged":
        return f"diverged: {formatting.divergence(run['diverged'])}"
    if run["status"] != "completed":
        return run["status"]
    return formatting.score({"mean": run["score"]}, summary["objective"]["name"])
