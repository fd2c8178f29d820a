"""The report of a study: one page that opens without a network, and its figures as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from bnzoo.files import write_atomically
from bnzoo.reporting import words
from bnzoo.reporting.series import VariantRuns, read_variants
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
    page = _environment().get_template("study.html.j2").render(
        summary=summary,
        verdicts=_verdicts(summary),
        missing=missing_sentence(summary),
        curves=curve_pictures(study.figures, variants, summary) if has_rows else [],
        paths=path_pictures(study.figures, variants),
        rows=table_rows(summary),
        target=target_text(summary),
        diverged=diverged_sentences(summary),
        facts=_facts(summary, variants),
        overrides={name: _yaml(item["overrides"]) for name, item in summary["variants"].items()},
        config=_yaml(summary["config"]),
    )  # fmt: skip
    write_atomically(study.report_file, page)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("bnzoo.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _verdicts(summary: dict[str, Any]) -> list[str]:
    """Return the verdicts on single variants that the study's own sentence does not contain."""
    found = (variant["verdict"] for variant in summary["variants"].values())
    return [text for text in found if text and text not in (summary["verdict"] or "")]


def _facts(summary: dict[str, Any], variants: Sequence[VariantRuns]) -> dict[str, str]:
    """Return what decides about the numbers besides the config, as heading and text."""
    seconds = sum(row["seconds"] or 0 for item in variants for run in item.runs for row in run.rows)
    epochs = sum(len(run.rows) for item in variants for run in item.runs)
    data, model = summary["config"]["data"]["name"], summary["config"]["model"]["name"]
    return {
        "Data and model": f"{data}, {model}",
        "Seeds": words.listed(summary["seeds"]),
        "Protocol": summary["protocol"],
        "Training time": f"{words.duration(seconds)} for {words.plural(epochs, 'epoch')}",
        "Machine": ", ".join(
            f"{key}: {value}" for key, value in (summary["machine"] or {}).items()
        ),
        "Device": words.listed(summary["device"] or []),
        "Versions": ", ".join(
            f"{key} {value}" for key, value in (summary["versions"] or {}).items()
        ),
    }


def _yaml(tree: Any) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True) if tree else ""
