"""The runs, studies and sweeps below a folder, as the command `runs` lists them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bnzoo.errors import InputError
from bnzoo.runs.folder import Folder
from bnzoo.runs.metrics import goodness, judged_by, main_metric
from bnzoo.runs.run_folder import RunFolder
from bnzoo.runs.study_folder import StudyFolder
from bnzoo.runs.sweep_folder import SweepFolder

KINDS = {folder.kind: folder for folder in (RunFolder, StudyFolder, SweepFolder)}


def list_folders(root: str | Path) -> list[dict[str, Any]]:
    """Describe what lies below a folder, the newest first; the runs of a study count as it.

    Args:
        root: where to look, at any depth.

    Returns:
        A mapping for each: `folder` (path), `kind` (run, study or sweep), `status` (completed,
        diverged, interrupted, running or unfinished), `data`, `model`, `placement`, `runs` (how
        many have ended), `metric` and `value` (the best there is, or None), `modified` (seconds
        since 1970). Of a folder that cannot be read: `folder` and `problem`.

    Raises:
        InputError: there is none.
    """
    found = [_describe(path) for path in _outermost(Path(root))]
    if not found:
        what = "none in it" if Path(root).is_dir() else "no such folder"
        raise InputError(
            f"{root}: expected a folder with runs, studies or sweeps, found {what}. "
            "Name another, or start with `bnzoo train quickstart`."
        )
    return sorted(found, key=lambda one: -one["modified"])


def _outermost(root: Path) -> Iterator[Path]:
    """Yield the folders with a `config.yaml` that lie in no other such folder."""
    for name, folders, files in os.walk(root):
        if "config.yaml" in files:
            folders.clear()
            yield Path(name)


def _describe(path: Path) -> dict[str, Any]:
    # Of the files that say how far it is: others come and go while it is running.
    files = (path / name for name in ("config.yaml", "history.csv", "summary.json"))
    modified = max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
    try:
        config = Folder(path).config()
        folder = KINDS[Folder(path).found_kind()](path)
        status = folder.status() or ("running" if folder.is_held() else "unfinished")
        metric, value = _best(folder, status)
        runs = [path] if folder.kind == "run" else (path / "runs").glob("*/seed-*")
        ended = sum(RunFolder(run).has_ended() for run in runs)
    except (InputError, OSError, KeyError, TypeError, ValueError) as error:
        return {"folder": str(path), "problem": str(error).splitlines()[0], "modified": modified}
    return {
        "folder": str(path),
        "kind": folder.kind,
        "status": status,
        "data": config.data.name,
        "model": config.model.name,
        "placement": config.model.placement if folder.kind == "run" else None,
        "runs": ended,
        "metric": metric,
        "value": value,
        "modified": modified,
    }


def _best(folder: Folder, status: str) -> tuple[str | None, float | None]:
    if status != "completed":
        return None, None
    summary = folder.summary()
    if folder.kind == "run":
        metric = main_metric(summary["test"])
        return f"test {metric}", summary["test"][metric]
    if folder.kind == "study":
        key = judged_by(summary)
        means = [variant[key]["mean"] for variant in summary["variants"].values()]
        measured = [mean for mean in means if mean is not None]
        best = max(measured, key=lambda mean: goodness(key, mean), default=None)
        return summary["metric"], best
    best = summary["best"]
    return summary["objective"]["name"], best and best["scores"]["mean"]
