"""The data to look at a model with: those of its run, or others in the form that it takes."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import keras

from bnzoo import data
from bnzoo.config import Config, load_config
from bnzoo.errors import InputError
from bnzoo.own_code import is_reference
from bnzoo.runs import RunFolder, usable_run

TRAINING_SPLIT = "training split"


class TrainingData(NamedTuple):
    """Training examples without augmentation.

    Attributes:
        batches: in random order, the same each time they are read, where the order is ours.
        name: what to call them.
        num_examples: how many there are.
    """

    batches: Any
    name: str
    num_examples: int


def training_data(
    model: keras.Model, source: Path, name: str | None = None, batch_size: int | None = None
) -> TrainingData:
    """Open the training split of a model's own data, or of others.

    Args:
        model: as it was loaded from the source.
        source: a run, study or sweep folder, or a `.keras` file.
        name: a data set, brought to the form that the run, or the model's input, has; or a config,
            `name.yaml`, whose data are taken as they are. By default those of the run. A function
            of the user's own must be named: a run's folder decides about no code that is run.
        batch_size: by default that of the run or the config, 32 without.

    Raises:
        InputError: nothing is named and the source is no run; or the data cannot be loaded, are
            code that nobody named, or have other shapes.
    """
    path, seed, scale, shape = usable_run(source), 0, None, _input_shape(model)
    if name and name.endswith((".yaml", ".yml")):
        config = load_config(name)
        settings, seed = config.data.model_dump(), config.seed
    elif path.is_dir():
        folder = RunFolder(path)
        config, metadata = folder.config(), folder.summary()["data"]
        settings, scale = settings_of_run(config, metadata, name)
        seed, shape = config.seed, metadata["input_shape"]
    elif name:
        settings = _settings_for(shape, name)
    else:
        raise InputError(
            f"{source}: expected the name of a data set, as a .keras file knows none of its own. "
            "For example digits, folder:photos, or a config: mine.yaml."
        )
    settings |= {"augment": "none"} | ({"batch_size": batch_size} if batch_size else {})
    splits = data.load(**settings, seed=seed, scale=scale)
    check_shape(settings["name"], splits.input_shape, shape)
    name = f"{settings['name']}, {TRAINING_SPLIT}"
    return TrainingData(splits.first_epoch, name, splits.num_train)


def settings_of_run(
    config: Config, metadata: dict[str, Any], name: str | None
) -> tuple[dict[str, Any], float | None]:
    """Return the `data` section with which a run's model is given data, and the factor for values.

    Args:
        config: of the run.
        metadata: `data` of its summary.
        name: of other data, which are taken in full; None for its own, as training took them,
            whatever a later version would choose.

    Raises:
        InputError: its own data are code that nobody named.
    """
    settings = config.data.model_dump()
    if not name:
        if config.data.is_own:
            raise InputError(
                f"{config.data.name}: expected consent to run this function, which the run has its "
                f"data from. Look at it, and name it with --data {config.data.name} (of "
                "recalibrate, without --data)."
            )
        return settings, metadata["preprocessing"]["scale"]
    if is_reference(name):
        if name != config.data.name:
            settings = {"batch_size": config.data.batch_size, "name": name}
        return settings, None
    settings |= {"name": name, "params": {}, "test": None, "train_size": None, "test_size": None}
    if not name.startswith("npz:"):  # images of any size, brought to that of training
        size, channels = (metadata["preprocessing"][key] for key in ("image_size", "channels"))
        settings |= _images(size, channels)
    return settings, None


def _settings_for(shape: tuple[int | None, ...] | None, name: str) -> dict[str, Any]:
    """Return the `data` section with which a model is given named data: all of its training split.

    Args:
        shape: of the model's input, without the batch; None where it is not one tensor.
        name: of the data.
    """
    settings = {"name": name, "validation": "none"}
    if is_reference(name) or shape is None:
        return settings
    if len(shape) == 3 and not name.startswith("npz:"):
        height, width, channels = shape
        return settings | _images((height, width) if height and width else None, channels)
    return settings | {"view": {1: "flat", 2: "rows"}.get(len(shape), "image")}


def _images(size: Any, channels: int | None) -> dict[str, Any]:
    return {"image_size": size, "color_mode": {1: "grayscale", 3: "rgb"}.get(channels, "auto")}


def _input_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    shape = getattr(model, "input_shape", None)
    is_one = isinstance(shape, tuple) and not any(isinstance(one, tuple) for one in shape)
    return shape[1:] if is_one else None


def check_shape(name: str, shape: Any, expected: Any) -> None:
    """Make sure that examples have the shape that a model takes.

    Args:
        name: of the data.
        shape: of an example; of nested ones each.
        expected: of the model's input, None for sizes that may differ; None where it is not known.

    Raises:
        InputError: they have another one.
    """
    shape, expected = (json.loads(json.dumps(one)) for one in (shape, expected))
    if expected is None or shape == expected:
        return
    is_flat = not isinstance(shape, dict) and len(shape) == len(expected)
    if is_flat and all(two in (one, None) for one, two in zip(shape, expected, strict=True)):
        return
    raise InputError(
        f"{name}: expected examples of shape {_shape(expected)}, as the model was trained on, got "
        f"{_shape(shape)}. Bring them to that shape."
    )


def _shape(shape: Any) -> Any:
    return tuple(shape) if isinstance(shape, list) else shape
