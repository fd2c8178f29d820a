"""The result files that are committed."""

import json
from pathlib import Path

from bnzoo.errors import plural

RESULTS = Path(__file__).parent.parent / "configs" / "results"


def load(name: str) -> dict | None:
    """Return one result, or None where it was not recorded."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def origin(result: dict) -> str:
    """Return on what a result was measured."""
    result = result.get("summary", result)
    machine, versions = result["machine"], result["versions"]
    return (
        f"{plural(machine['cores'], 'core')} of {machine['cpu']}, Python {versions['python']}, "
        f"TensorFlow {versions['tensorflow']}, Keras {versions['keras']}"
    )
