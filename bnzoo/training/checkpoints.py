"""The model of a checkpoint with what Keras leaves out of it: the state of its random numbers."""

from pathlib import Path
from typing import Any

import keras

from bnzoo import own_code
from bnzoo.config import Config
from bnzoo.runs import RunFolder
from bnzoo.runs.checkpoint import add_to_checkpoint, read_checkpoint
from bnzoo.saving import load_keras_file, save_model
from bnzoo.versions import private

_SEEDS = "keras.src.random.seed_generator"
_NOT_KEPT = "Random numbers of layers without a seed differ in a resumed run."


def save_checkpoint(model: keras.Model, folder: RunFolder, epochs_done: int) -> None:
    """Write all that the run needs to go on from here into one file, whole or not at all.

    Args:
        model: compiled, in training.
        folder: the run's.
        epochs_done: its complete epochs.
    """
    folder.checkpoints.mkdir(exist_ok=True)
    seeds = [keras.ops.convert_to_numpy(one).tolist() for one in _seeds(model)]
    state = {"seeds": seeds, **folder.carried()}
    save_model(model, folder.checkpoint(epochs_done), lambda file: add_to_checkpoint(file, state))


def load_checkpoint(file: Path, config: Config) -> keras.Model:
    """Load a model that goes on from where the saved one was, its random numbers too.

    Args:
        file: of `save_checkpoint`; one of an older version tells nothing of random numbers.
        config: of the run.
    """
    with keras.saving.custom_object_scope(own_code.objects(config.own_functions())):
        model = load_keras_file(file)
    for one, value in zip(_seeds(model), read_checkpoint(file).get("seeds", []), strict=False):
        one.assign(value)
    return model


def _seeds(model: keras.Model) -> list[Any]:
    """Return the states of dropout and the like, and Keras' own for who brings no seed."""
    found = [one for one in model.variables if one.name == "seed_generator_state"]
    of_all = private(_SEEDS, "global_seed_generator", _NOT_KEPT)
    return [*found, *([of_all().state] if of_all else [])]
