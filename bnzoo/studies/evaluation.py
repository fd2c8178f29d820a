"""What a trained model gets right and wrong on labeled data: its test set, or one's own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnzoo import data
from bnzoo.config import Config
from bnzoo.errors import InputError
from bnzoo.reporting.classification import Evaluation, collect_answers, evaluation_record
from bnzoo.runs import RunFolder, usable_run
from bnzoo.saving import load_model


def evaluate_run(path: str | Path, data_name: str | None = None) -> Evaluation:
    """Evaluate a completed run, or the best run of a study or a sweep.

    Args:
        path: the folder.
        data_name: data whose test split is taken; by default that of the run.

    Raises:
        InputError: as `load_model` and `evaluate`.
    """
    if not Path(path).is_dir():
        raise InputError(
            f"{path}: expected the folder of a run, study or sweep, or an export, got "
            f"{'a file' if Path(path).exists() else 'no such folder'}. Check the path."
        )
    run = RunFolder(usable_run(path))
    model = load_model(run.path, compile=False)
    metadata = run.summary()["data"]
    return evaluate(model.predict_on_batch, run.config(), metadata, str(run.path), data_name)


def evaluate(
    logits_of: Callable[[np.ndarray], np.ndarray],
    config: Config,
    metadata: dict[str, Any],
    source: str,
    data_name: str | None = None,
) -> Evaluation:
    """Ask a model about the test split of a data set.

    Args:
        logits_of: takes inputs of shape (batch, *input_shape), returns logits of shape
            (batch, classes).
        config: of the run; its `data` section says how examples are prepared.
        metadata: `data` of the run's summary: its `input_shape`, `class_names` and
            `preprocessing`.
        source: what the record calls the model.
        data_name: of the data; by default that of the run. It may hold some of the classes only.

    Returns:
        The answers, and their numbers as JSON has them (`evaluation_record`).

    Raises:
        InputError: the data cannot be loaded, or has other shapes or classes than the model's.
    """
    settings, class_names = config.data.model_dump(), metadata["class_names"]
    scale = None
    if data_name:
        settings["name"] = data_name
        if not data_name.startswith("npz:"):  # images of any size, brought to that of training
            size, channels = (metadata["preprocessing"][key] for key in ("image_size", "channels"))
            settings["image_size"] = size
            settings["color_mode"] = {1: "grayscale", 3: "rgb"}.get(channels, "auto")
    else:  # as training took them, whatever a later version would choose
        scale = metadata["preprocessing"]["scale"]
    batches, source_of_data = data.load_test(**settings, seed=config.seed, scale=scale)
    found = source_of_data.class_names
    shape = tuple(batches.element_spec[0].shape[1:])
    if shape != tuple(metadata["input_shape"]):
        raise InputError(
            f"{settings['name']}: expected examples of shape {tuple(metadata['input_shape'])}, as "
            f"the model was trained on, got {shape}. Bring them to that shape."
        )
    unknown = [one for one in found if one not in class_names]
    if unknown:
        raise InputError(
            f"{settings['name']}: expected classes that the model was trained on "
            f"({_few(class_names)}), got others: {_few(unknown)}. Rename them or leave them out."
        )
    index = np.array([class_names.index(one) for one in found])
    labeled = ((inputs, index[labels]) for inputs, labels in batches.as_numpy_iterator())
    answers = collect_answers(logits_of, labeled)
    about = {
        "source": source,
        "data": f"{settings['name']}, test",
        "skipped": len(source_of_data.skipped),
        "reading": source_of_data.reading,
    }
    return answers, evaluation_record(answers, class_names, **about)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
