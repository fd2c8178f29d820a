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
from bnzoo.studies.model_data import check_shape, settings_of_run


def evaluate_run(path: str | Path, data_name: str | None = None) -> Evaluation:
    """Evaluate a completed run, or the best run of a study or a sweep.

    Args:
        path: the folder.
        data_name: data whose test split is taken; by default that of the run. A function of the
            user's own must be named: a run's folder decides about no code that is run.

    Returns:
        The answers, and their numbers as JSON has them (`evaluation_record`). Of a run with a
        `train.loss`, no answers, and the loss and the metrics as `metrics`.

    Raises:
        InputError: as `load_model` and `evaluate`.
    """
    if not Path(path).is_dir():
        raise InputError(
            f"{path}: expected the folder of a run, study or sweep, or an export, got "
            f"{'a file' if Path(path).exists() else 'no such folder'}. Check the path."
        )
    run = RunFolder(usable_run(path))
    run.usable_model()
    config, metadata, source = run.config(), run.summary()["data"], str(run.path)
    is_classifier = config.train.loss is None and bool(metadata["class_names"])
    model = load_model(run.path, not is_classifier)
    if is_classifier:
        return evaluate(model.predict_on_batch, config, metadata, source, data_name)
    batches, found = _test_data(config, metadata, data_name)
    metrics = model.evaluate(batches, verbose=0, return_dict=True)
    about = _about(source, data_name or config.data.name, found)
    return None, {**about, "metrics": {name: float(value) for name, value in metrics.items()}}


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
    batches, source_of_data = _test_data(config, metadata, data_name)
    name, class_names = data_name or config.data.name, metadata["class_names"]
    found = source_of_data.class_names
    unknown = [one for one in found if one not in class_names]
    if unknown:
        raise InputError(
            f"{name}: expected classes that the model was trained on "
            f"({_few(class_names)}), got others: {_few(unknown)}. Rename them or leave them out."
        )
    index = np.array([class_names.index(one) for one in found])
    labeled = ((inputs, index[labels]) for inputs, labels, *_ in data.numpy_batches(batches))
    answers = collect_answers(logits_of, labeled)
    return answers, evaluation_record(answers, class_names, **_about(source, name, source_of_data))


def _test_data(config: Config, metadata: dict[str, Any], data_name: str | None) -> tuple[Any, Any]:
    """Return the test split in batches, and what is known of it.

    Raises:
        InputError: it cannot be loaded, is code that nobody named, or has other shapes.
    """
    settings, scale = settings_of_run(config, metadata, data_name)
    batches, found = data.load_test(**settings, seed=config.seed, scale=scale)
    shape = getattr(found, "input_shape", None) or tuple(batches.element_spec[0].shape[1:])
    check_shape(settings["name"], shape, metadata["input_shape"])
    return batches, found


def _about(source: str, name: str, found: Any) -> dict[str, Any]:
    return {
        "source": source,
        "data": f"{name}, test",
        "skipped": len(found.skipped),
        "reading": found.reading,
    }


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
