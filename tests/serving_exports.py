"""Exports, requests and commands that several tests of serving share."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import bnzoo
from bnzoo import models
from bnzoo.data.preprocessing import Preprocessing
from bnzoo.serving import parity

SHAPE = (8, 8, 1)
CLASSES = tuple("abcdefghij")
PREPROCESSING = Preprocessing("image", SHAPE[:2], SHAPE[2], 1 / 255)


def small_classifier(placement="before", shape=SHAPE, seed=0):
    """Return a network for small images with batch normalization that does something."""
    keras.utils.set_random_seed(seed)
    model = models.build("three_conv", placement, input_shape=shape, filters=[4, 4, 4])
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, bnzoo.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return model


def export_classifier(path, **arguments) -> Path:
    """Export it with everything that a client may want to know, compared in this process."""
    arguments = {"preprocessing": PREPROCESSING, "class_names": CLASSES} | arguments
    with pytest.MonkeyPatch.context() as patch:
        compare_in_this_process(patch)
        return bnzoo.export_saved_model(small_classifier(), path, **arguments)


def export_function(path, function, spec) -> Path:
    """Write a SavedModel of a plain function, as version 1 of a model: at once, as no network is.

    Args:
        path: of the model.
        function: from a tensor to answers by name.
        spec: of the tensor; its name is that of the input.
    """
    traced = tf.function(function, input_signature=[spec]).get_concrete_function()
    tf.saved_model.save(tf.Module(), str(path / "1"), signatures={"serving_default": traced})
    return path / "1"


def export_doubling(path) -> Path:
    """Export a function of three numbers a row that doubles them."""
    spec = tf.TensorSpec((None, 3), tf.float32, name="inputs")
    return export_function(path, lambda inputs: {"outputs": 2 * inputs}, spec)


def signature(folder, name="serving_default"):
    """Return a loaded signature; it keeps its model alive."""
    loaded = tf.saved_model.load(str(folder))
    found = loaded.signatures[name]
    found.keep = loaded
    return found


def facts(folder) -> dict:
    """Return the metadata of an export."""
    return json.loads((Path(folder) / "bnzoo.json").read_text())


def ask_here(export, batches):
    """Stand in for `parity.ask_new_process`: a new process each time takes seconds."""
    ask = signature(export)
    answers = [ask(inputs=tf.constant(batch)) for batch in batches]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def hostile_shapes(shape) -> list[tuple[int, ...]]:
    """Return shapes that do not fit a model's input (None, ...), None where it is open."""
    whole = [size or 3 for size in shape[1:]]
    return [
        *((), (0,), (2,), (2, 3), (2, 3, 1, 1, 1, 1)),
        tuple(whole) if len(whole) != len(shape) else (),
        (2, *whole, 1),
        (1, 2, *whole),
        (2, *whole[:-1], whole[-1] + 2),
        (2, *whole[:-1], 0),
        (2, whole[0] + 1 if shape[1] is not None else 0, *whole[1:]),
    ]


def compare_in_this_process(monkeypatch) -> None:
    """Let exports be compared without a new process."""
    monkeypatch.setattr(parity, "ask_new_process", ask_here)
