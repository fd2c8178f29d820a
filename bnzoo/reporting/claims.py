"""What papers say of batch normalization, and what came out here."""

import json
from typing import Any

from bnzoo.config import claims_folder
from bnzoo.config.claim import expectation
from bnzoo.reporting import formatting

HOLDS = {True: "holds", False: "the opposite is settled", None: "not settled"}


def recorded_claims() -> list[dict[str, Any]]:
    """Return the recorded results of all claims, by name.

    Returns:
        What `scripts/run_claims.py` wrote of each: `name`, `title`, `command`, `seconds`, and
        `summary` of the study with its `claim`.
    """
    files = sorted(claims_folder().glob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def claim_row(recorded: dict[str, Any]) -> dict[str, str]:
    """Return one claim as a row of texts: `claim`, `published`, `measured`, `verdict`."""
    claim = recorded["summary"]["claim"]
    return {
        "claim": f"{recorded['title']} ({claim['source']})",
        "published": claim["published"],
        "measured": "; ".join(map(measured, claim["expected"])),
        "verdict": claim["verdict"],
    }


def measured(expected: dict[str, Any]) -> str:
    """Return the difference that an expectation is about: `before - none: +4.5 points [2.3, 6.7]`.

    Args:
        expected: an entry of a claim's `expected`.
    """
    found, number, pair = expected["difference"], expected["number"], expectation(expected["text"])
    if found["mean"] is None:
        return f"{pair.variant} {formatting.MINUS} {pair.other}: not measured"
    of = "" if formatting.is_share(number) else f" in {number.replace('_', ' ')}"
    interval = f" {formatting.interval(*found['interval'], number)}" if found["interval"] else ""
    change = formatting.change(found["mean"], number)
    return f"{pair.variant} {formatting.MINUS} {pair.other}{of}: {change}{interval}"
