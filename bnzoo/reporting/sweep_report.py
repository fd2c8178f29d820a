"""The report of a sweep: one page that opens without a network, and its figures as PNG."""

from pathlib import Path
from typing import Any

from bnzoo.config import as_yaml
from bnzoo.files import write_atomically
from bnzoo.reporting import formatting
from bnzoo.reporting.curves import curve_pictures
from bnzoo.reporting.heat_map import draw_heat_map
from bnzoo.reporting.page import Picture, drawn, metadata, render, save, svg_text
from bnzoo.reporting.rate_curves import draw_rate_curves
from bnzoo.reporting.series import VariantRuns, read_runs
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
        pictures=grid_pictures(sweep.figures, grid, summary) if grid and grid.cells else [],
        is_gathered=bool(grid and grid.is_gathered),
        curves=curve_pictures(sweep.figures, best, summary) if best else [],
        placements=[_placement_row(summary, name) for name in summary["placements"]],
        comparisons=[_comparison(summary, one) for one in summary["comparisons"]],
        paths=list(dict.fromkeys(path for one in summary["trials"] for path in one["values"])),
        trials=[_trial_row(summary, trial) for trial in summary["trials"]],
        metric=formatting.metric(summary["objective"]["name"]),
        metadata=metadata(summary, runs),
        config=as_yaml(summary["config"]),
    )
    write_atomically(sweep.report_file, page)


def grid_pictures(folder: Path, grid: Grid, summary: dict[str, Any]) -> list[Picture]:
    """Draw the heat map and the scores over the rate, and write both as PNG.

    Args:
        folder: of the figures; made if missing.
        grid: the cells of the sweep.
        summary: the content of its `summary.json`.
    """
    objective, seeds = summary["objective"], len(summary["seeds"])
    is_share = objective["name"].endswith("accuracy")
    metric = formatting.metric(objective["name"]).capitalize()
    key = grid.path.rpartition(".")[2].replace("_", " ")
    heat_map = drawn(
        draw_heat_map,
        grid,
        f"{metric} at the best epoch",
        is_share,
        objective["direction"] == "max",
    )
    curves = drawn(draw_rate_curves, grid, f"{metric} over {key}", is_share)
    save(heat_map, folder, "heat_map")
    save(curves, folder, "rate")
    mean = "Mean over the seeds." if seeds > 1 else "One seed: there is no band."
    band = " Band: from the lowest to the highest seed." if seeds > 1 else ""
    return [
        Picture(svg_text(heat_map, "heat_map"), f"{metric} by {key} and placement.", mean),
        Picture(
            svg_text(curves, "rate"), f"{metric} over {key}, a line per placement.", mean + band
        ),
    ]


def _best_of_placements(folder: Path, summary: dict[str, Any]) -> list[VariantRuns]:
    found = {name: entry["best"] for name, entry in summary["placements"].items() if entry["best"]}
    trials = {trial["trial"]: trial for trial in summary["trials"]}
    return [read_runs(folder, name, trials[best["trial"]]["runs"]) for name, best in found.items()]


def _placement_row(summary: dict[str, Any], name: str) -> dict[str, Any]:
    entry = summary["placements"][name]
    best, rate = entry["best"], entry["largest_stable_rate"]
    return {
        "name": name,
        "score": formatting.score(best and best["scores"], summary["objective"]["name"]),
        "values": best["values"] if best else {},
        "test_accuracy": formatting.percent_spread(best and best["test_accuracy"]),
        "rate": formatting.NOTHING if rate is None else f"{rate:g}",
        "diverged": f"{entry['diverged']} of {entry['trials']}" if entry["diverged"] else "none",
    }


def _comparison(summary: dict[str, Any], one: dict[str, Any]) -> dict[str, str]:
    left, right = one["placements"]
    return {
        "names": f"{left} against {right}",
        "difference": formatting.gain(one["difference"], summary["objective"]["name"]),
        "seeds": formatting.plural(one["difference"]["n"], "seed"),
    }


def _trial_row(summary: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    return {
        **trial,
        "seeds": [{"seed": run["seed"], "value": _value(summary, run)} for run in trial["runs"]],
        "seconds": f"{sum(run['seconds'] or 0 for run in trial['runs']):.1f}",
    }


def _value(summary: dict[str, Any], run: dict[str, Any]) -> str:
    if run["status"] == "diverged":
        where = run["diverged"]
        return f"diverged: {formatting.divergence(where)} at step {where['step']:,}"
    if run["status"] != "completed":
        return run["status"]
    return formatting.score({"mean": run["score"]}, summary["objective"]["name"])
