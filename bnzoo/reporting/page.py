"""What the pages of studies and sweeps have in common: the template, the facts, the config."""

from collections.abc import Sequence
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from bnzoo.reporting import formatting
from bnzoo.reporting.series import VariantRuns


def render(template: str, **values: Any) -> str:
    """Return a page from a template of this room."""
    environment = Environment(
        loader=PackageLoader("bnzoo.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def facts(summary: dict[str, Any], variants: Sequence[VariantRuns]) -> dict[str, str]:
    """Return what decides about the numbers besides the config, as heading and text.

    Args:
        summary: of a study or a sweep.
        variants: all of its runs.
    """
    seconds = sum(row["seconds"] or 0 for item in variants for run in item.runs for row in run.rows)
    epochs = sum(len(run.rows) for item in variants for run in item.runs)
    data, model = summary["config"]["data"]["name"], summary["config"]["model"]["name"]
    return {
        "Data and model": f"{data}, {model}",
        "Seeds": formatting.listed(summary["seeds"]),
        "Protocol": summary["protocol"],
        "Training time": f"{formatting.duration(seconds)} for {formatting.plural(epochs, 'epoch')}",
        "Machine": ", ".join(
            f"{key}: {value}" for key, value in (summary["machine"] or {}).items()
        ),
        "Device": formatting.listed(summary["device"] or []),
        "Versions": ", ".join(
            f"{key} {value}" for key, value in (summary["versions"] or {}).items()
        ),
    }


def as_yaml(tree: Any) -> str:
    """Return a mapping as people write it; nothing for an empty one."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True) if tree else ""
