"""What was watched in the runs of a study: its numbers, and its figure."""

from typing import Any

from bnzoo.config import Config
from bnzoo.files import read_rows
from bnzoo.reporting import formatting
from bnzoo.reporting.page import Picture, drawn, picture
from bnzoo.runs import RunFolder, StudyFolder
from bnzoo.studies.statistics import describe
from bnzoo.studies.watching import study_of
from bnzoo.studies.watching.study import Row, until_infinite


def add_watched(
    variants: dict[str, Any], folder: StudyFolder, config: Config
) -> tuple[dict[str, Any], list[str]]:
    """Give each run its numbers, and each variant their mean and spread.

    Args:
        variants: of the study's summary; changed. A number is None where it was not measured: of
            looks during training if the run diverged or one of them was not finite, as a part of a
            run, the tame one, is not to be compared with whole ones.
        folder: the study's.
        config: the study's.

    Returns:
        What the summary says of the study, as `study`, and lines on runs whose numbers are missing.
    """
    study, notes = study_of(config), []
    if study is None:
        return {}, []
    for name, entry in variants.items():
        for run in entry["runs"]:
            run |= dict.fromkeys(study.numbers)
            if run["status"] == "missing":
                continue
            label, rows = formatting.run_name(name, run["seed"]), _rows(folder, run)
            finite = until_infinite(rows)
            is_whole = run["status"] == "completed" and finite == rows
            run |= study.count(finite if is_whole else [row for row in finite if not row["step"]])
            if not _run_folder(folder, run).watched_file.exists():
                notes.append(
                    f"not watched: {label} ended without the study {study.name}, so its numbers "
                    "are missing. Remove its folder and go on with --resume."
                )
            elif run["status"] == "completed" and not is_whole:
                step = rows[len(finite)]["step"]
                notes.append(f"not finite: what was watched of {label} at step {step:,}.")
        entry |= {key: describe([run[key] for run in entry["runs"]]) for key in study.numbers}
    return {"study": {"name": study.name, "numbers": study.numbers}}, notes


def study_pictures(config: Config, folder: StudyFolder, summary: dict[str, Any]) -> list[Picture]:
    """Draw what was watched, on the page and as `figures/<study>.png`; nothing where it was not."""
    study = study_of(config)
    if study is None:
        return []
    variants = {
        name: [
            rows
            for run in entry["runs"]
            if run["status"] != "missing" and (rows := until_infinite(_rows(folder, run)))
        ]
        for name, entry in summary["variants"].items()
    }
    if not any(variants.values()):
        return []
    words = "; ".join(
        f"{text}: {_spoken(summary, number)}" for number, text in study.numbers.items()
    )
    figure = drawn(study.draw, variants)
    return [picture(figure, folder.figures, study.name, f"{study.caption} {words}.", study.caption)]


def _run_folder(folder: StudyFolder, run: dict[str, Any]) -> RunFolder:
    return RunFolder(folder.path / run["folder"])


def _rows(folder: StudyFolder, run: dict[str, Any]) -> list[Row]:
    return read_rows(_run_folder(folder, run).watched_file)


def _spoken(summary: dict[str, Any], number: str) -> str:
    found = summary["variants"].items()
    return ", ".join(f"{name} {formatting.significant(entry[number])}" for name, entry in found)
