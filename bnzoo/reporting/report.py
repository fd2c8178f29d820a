"""The report of a study: one page that opens without a network, and its figures as PNG."""

from pathlib import Path
from typing import Any

from bnzoo.files import write_atomically
from bnzoo.reporting.page import as_yaml, facts, render
from bnzoo.reporting.series import read_variants
from bnzoo.reporting.study_figures import curve_pictures, path_pictures
from bnzoo.reporting.table import diverged_sentences, missing_sentence, table_rows, target_text
from bnzoo.runs import StudyFolder


def write_study_report(folder: Path, summary: dict[str, Any]) -> None:
    """Write `report.html` and `figures/*.png` of a study; equal input gives equal files.

    Args:
        folder: the study's folder, with the run folders that `summary` names.
        summary: the content of the study's `summary.json`, of a completed or interrupted study.
    """
    study = StudyFolder(folder)
    variants = read_variants(study.path, summary)
    has_rows = any(run.line("loss").epochs.size for item in variants for run in item.runs)
    page = render(
        "study.html.j2",
        summary=summary,
        verdicts=_verdicts(summary),
        missing=missing_sentence(summary),
        curves=curve_pictures(study.figures, variants, summary) if has_rows else [],
        paths=path_pictures(study.figures, variants),
        rows=table_rows(summary),
        target=target_text(summary),
        diverged=diverged_sentences(summary),
        facts=facts(summary, variants),
        overrides={name: as_yaml(item["overrides"]) for name, item in summary["variants"].items()},
        config=as_yaml(summary["config"]),
    )  # fmt: skip
    write_atomically(study.report_file, page)


def _verdicts(summary: dict[str, Any]) -> list[str]:
    """Return the verdicts on single variants that the study's own sentence does not contain."""
    found = (variant["verdict"] for variant in summary["variants"].values())
    return [text for text in found if text and text not in (summary["verdict"] or "")]
