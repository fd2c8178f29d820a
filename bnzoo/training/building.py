"""The model of a run, built for its data, compiled, and tried out before hours are spent on it."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from bnzoo import data, own_code
from bnzoo.config import Config
from bnzoo.errors import InputError, first_sentence
from bnzoo.models import build_model
from bnzoo.own_code import is_reference
from bnzoo.saving import load_keras_file, save_model
from bnzoo.training.compiling import compile_model
from bnzoo.training.distribution import Replicas
from bnzoo.training.settings import start_afresh


def load_data(config: Config) -> "data.Splits":
    """Load the data of a run, of which an epoch is `train.steps_per_epoch` batches.

    Raises:
        InputError: the data cannot be loaded, or cannot be cut to that.
    """
    splits = data.load(**config.data.model_dump(), seed=config.seed)
    steps, most = config.train.steps_per_epoch, splits.steps_per_epoch
    if steps is None:
        return splits
    if isinstance(splits.train, keras.utils.PyDataset):
        raise InputError(
            f"train.steps_per_epoch: expected null with a PyDataset, whose length is its own, got "
            f"{steps} with {splits.name}. Leave it out, or return arrays or a tf.data.Dataset."
        )
    if steps > most:
        raise InputError(
            f"train.steps_per_epoch: expected at most {most}, as many batches as {splits.name} has "
            f"for training, got {steps}. Lower it, or set null for all."
        )
    # Each iteration is another shuffle, whose order depends on the seed and the epoch alone.
    return dataclasses.replace(splits, train=splits.train.take(steps))


def build_for(
    config: Config, splits: "data.Splits", replicas: Replicas | None = None
) -> keras.Model:
    """Build and compile the model of a run.

    Args:
        config: of the run.
        splits: its data.
        replicas: that train it; None is this process alone.

    Raises:
        InputError: model, loss and data do not fit together, or a function of the user's own fails.
    """
    replicas = replicas or Replicas()

    def try_alone() -> keras.Model:
        model = _compiled(config, splits)
        if config.own_functions() or config.train.loss is not None:
            _try_out(model, config, splits)
        return model

    with own_code.named(config.own_functions()):
        model = replicas.together(try_alone)
        if not replicas.is_distributed:
            return model
        start_afresh()  # once more, under the same names: no model changes sides
        with replicas.scope():
            return _compiled(config, splits)


def _compiled(config: Config, splits: "data.Splits") -> keras.Model:
    # Loading may have drawn: to prepare a data set does, to read what is prepared does not.
    keras.utils.set_random_seed(config.seed)
    parameters = config.model.resolved(splits.input_shape, splits.num_classes)
    if config.train.distribute != "none":
        norm = parameters.batch_norm.for_replicas()
        parameters = parameters.model_copy(update={"batch_norm": norm})
    model = build_model(parameters)
    _check_loss(config, splits)
    compile_model(model, config.train, splits.steps_per_epoch)
    return model


def _check_loss(config: Config, splits: "data.Splits") -> None:
    if config.train.loss is None and splits.num_classes is None:
        raise InputError(
            f"train.loss: expected a loss, as {splits.name} has no classes (whole numbers from 0), "
            "got none. For example train.loss: mse."
        )


def first_batch(batches: Any) -> tuple:
    """Return the first batch of a split, as a data set of TensorFlow or of Keras has it."""
    return batches[0] if isinstance(batches, keras.utils.PyDataset) else next(iter(batches))


def _try_out(model: keras.Model, config: Config, splits: "data.Splits") -> None:
    """Ask the model about one batch, and whether it can be saved: better now than hours later."""
    x, y, *_ = first_batch(splits.train)
    try:
        predicted = model(x, training=False)
    except Exception as error:
        raise InputError(
            f"{config.model.name}: expected a model for examples of shape {splits.input_shape}, as "
            f"{splits.name} has them; it says: {first_sentence(error)}. Change one of the two."
        ) from error
    _check_outputs(predicted, y, config, splits)
    try:
        model.compute_loss(x, y, predicted, training=False)
        model.compute_metrics(x, y, predicted)
    except Exception as error:
        raise _unfit(predicted, y, config, f"Keras says: {first_sentence(error)}") from error
    model.reset_metrics()
    _check_saving(model, config)


def _check_outputs(predicted: Any, y: Any, config: Config, splits: "data.Splits") -> None:
    """Refuse outputs that Keras would compare with other targets, or only fail at some batch."""
    loss, classes = config.train.loss, splits.num_classes
    if len(tree.flatten(predicted)) != len(tree.flatten(y)):
        raise _unfit(predicted, y, config, "there must be one output for each of the targets")
    if not hasattr(predicted, "shape") or not hasattr(y, "shape"):
        return
    # Keras adds or drops a last axis of 1.
    shapes = [tuple(one.shape[: 1 if one.shape[1:] == (1,) else None]) for one in (predicted, y)]
    is_number = isinstance(loss, str) and not is_reference(loss) and "sparse" not in loss
    if loss in (None, "sparse_categorical_crossentropy"):
        if len(predicted.shape) != len(shapes[1]) + 1 or predicted.shape[-1] < (classes or 1):
            wanted = f"a last axis with one for each of the {classes} classes"
            raise _unfit(predicted, y, config, f"there must be {wanted}")
    elif is_number and shapes[0] != shapes[1]:
        raise _unfit(predicted, y, config, f"{loss} compares number with number")


def _unfit(predicted: Any, y: Any, config: Config, reason: str) -> InputError:
    return InputError(
        f"{config.model.name}: expected outputs that fit the targets of {config.data.name}, of "
        f"shape {_shapes(y)} for a batch, got {_shapes(predicted)}: {reason}. Change the model's "
        "last layer, or train.loss and train.metrics."
    )


def _shapes(values: Any) -> Any:
    return tree.map_structure(lambda one: tuple(one.shape), values)


def _check_saving(model: keras.Model, config: Config) -> None:
    model.optimizer.build(model.trainable_variables)  # else Keras warns of what it lacks
    known = keras.saving.custom_object_scope(own_code.objects(config.own_functions()))
    with tempfile.TemporaryDirectory() as folder, known:
        file = Path(folder) / "model.keras"
        try:
            save_model(model, file)
            again = load_keras_file(file)
        except Exception as error:
            is_ours = isinstance(error, InputError)
            reason = str(error).removeprefix(f"{file}: ") if is_ours else first_sentence(error)
            reason = reason.partition(" Save it again")[0]  # nobody has saved it yet
            raise InputError(
                f"{config.model.name}: expected a model that can be saved and loaded again, as it "
                f"is after each epoch; the attempt says: {reason.rstrip('.')}. Give its layers a "
                "get_config, define them at the top of the file, and use no lambda."
            ) from error
    pairs = zip(model.get_weights(), again.get_weights(), strict=False)
    is_same = len(model.weights) == len(again.weights) and all(
        np.array_equal(one, other, equal_nan=one.dtype.kind == "f") for one, other in pairs
    )
    if not is_same:
        raise InputError(
            f"{config.model.name}: expected a model that has its weights again when it is loaded, "
            f"got {len(again.weights)} of {len(model.weights)}, or others. Make all layers in "
            "__init__ or build, and keep them as attributes."
        )
