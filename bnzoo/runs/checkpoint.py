"""What a checkpoint holds beside the model: enough to mend the other files of its run."""

import json
import zipfile
from pathlib import Path
from typing import Annotated, Any

import pydantic

from bnzoo.errors import InputError

FORMAT = 1
"""Of the part that is ours. Checkpoints of before there was one are the model alone."""

_MEMBER = "bnzoo.json"  # in the archive that a `.keras` file is; Keras passes over it


def add_to_checkpoint(file: Path, state: dict[str, Any]) -> None:
    """Write what a run needs beside the model into its `.keras` file.

    Args:
        file: as Keras has saved it.
        state: JSON-able.
    """
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(_MEMBER, json.dumps({"format": FORMAT, **state}))


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Return what `add_to_checkpoint` wrote; nothing where an older version has saved.

    Raises:
        InputError: a newer version has saved it, or something else than bnzoo.
    """
    with zipfile.ZipFile(file) as archive:
        if _MEMBER not in archive.namelist():
            return {}
        try:
            state = _State.model_validate_json(archive.read(_MEMBER))
        except pydantic.ValidationError as error:
            raise InputError(
                f"{file}: expected a checkpoint of bnzoo, got another {_MEMBER} in it "
                f"({error.errors()[0]['msg']}). Remove this file to go on from the one before it."
            ) from None
    if state.format != FORMAT:
        raise InputError(
            f"{file}: expected a checkpoint of format {FORMAT} or older, got {state.format}. "
            "Resume it with the version of bnzoo that wrote it, or start a new run with --out."
        )
    return state.model_dump()


_Number = Annotated[int, pydantic.Field(ge=0, lt=2**32)]


class _State(pydantic.BaseModel):
    format: int
    seeds: list[tuple[_Number, _Number]] = []
    files: dict[str, str] = {}
