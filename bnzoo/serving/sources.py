"""What can be exported from disk: a run, a study's best run, a model file."""

from pathlib import Path
from typing import Any

import numpy as np

from bnzoo import data
from bnzoo.config import Config
from bnzoo.data.preprocessing import Preprocessing
from bnzoo.errors import InputError
from bnzoo.loading import load_model
from bnzoo.runs import RunFolder, usable_run
from bnzoo.serving import parity
from bnzoo.serving.export import export_saved_model


def export_source(
    source: str | Path, path: str | Path, version: int | None = None, fold: bool = True
) -> Path:
    """Export a run folder, the best run of a study or a sweep, or a `.keras` file.

    What a run knows of its data goes along, and the export is compared on its test data, if that
    is still there without a download.

    Raises:
        InputError: as `load_model` and `export_saved_model`.
    """
    source, run = Path(source), usable_run(source)
    # A run's output is known to be logits; elsewhere the loss may tell.
    model = load_model(run, compile=not run.is_dir())
    known = _known_of_run(RunFolder(run)) if run.is_dir() else {"metadata": {}}
    if run != source:
        known["metadata"]["run"] = run.relative_to(source).as_posix()  # which one of them
    return export_saved_model(model, path, version, fold, **known)


def _known_of_run(folder: RunFolder) -> dict[str, Any]:
    summary, config = folder.summary(), folder.config()
    facts = summary["data"]
    return {
        "class_names": facts["class_names"],
        "preprocessing": Preprocessing.from_dict(facts["preprocessing"]),
        "examples": run_examples(config),
        "metadata": {
            "config": config.model_dump(mode="json"),
            "data": facts,
            "test": summary["test"],
        },
    }


def run_examples(config: Config) -> np.ndarray | None:
    """Return the inputs of a run's test data that an export is compared on.

    Args:
        config: of the run.

    Returns:
        Array of shape (n, *input_shape), or None if the data is not there without a download.
    """
    if not data.is_in_place(config.data.name):
        return None
    try:
        splits = data.load(**config.data.model_dump(), seed=config.seed)
    except InputError:  # it is not what it was any more
        return None
    wanted, found = sum(parity.BATCH_SIZES), []
    for inputs, _ in splits.test.as_numpy_iterator():
        found.append(inputs)
        if sum(map(len, found)) >= wanted:
            break
    return np.concatenate(found)[:wanted]
