"""How deep a reader has to follow a training call: frames of bnzoo down to the first sum."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import bnzoo
from bnzoo.layers import BatchNormalization

PACKAGE = str(Path(bnzoo.__file__).parent)
MASK = np.ones((64, 16, 16), bool)
CASES = {
    # the layer's arguments, the input's shape, the mask, frames at most
    "plain": ({}, (32, 8), None, 6),
    "fused": ({}, (64, 16, 16, 32), None, 6),
    "masked": ({}, (64, 16, 16, 32), MASK, 6),
    "compiled": ({"implementation": "xla"}, (64, 16, 16, 32), None, 8),
    "ghosts": ({"virtual_batch_size": 16}, (64, 16, 16, 32), None, 8),
    "replicas": ({"synchronized": True}, (64, 16, 16, 32), None, 8),
}


def frames():
    """Name the functions of bnzoo that are being called, outermost first."""
    frame, found = sys._getframe(1), []
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            found.append(frame.f_code.co_name)
        frame = frame.f_back
    return found[::-1]


@pytest.mark.parametrize("name", CASES)
def test_few_frames_lead_to_the_first_sum(name, monkeypatch):
    arguments, shape, mask, at_most = CASES[name]
    depths = []

    def noting(function):
        def noted(*args, **options):
            depths.append(frames())
            return function(*args, **options)

        return noted

    monkeypatch.setattr("keras.ops.sum", noting(bnzoo.ops.plain.ops.sum))
    monkeypatch.setattr("keras.ops.matmul", noting(bnzoo.ops.plain.ops.matmul))
    kernel = noting(tf.raw_ops.FusedBatchNormV3)
    monkeypatch.setattr(tf.raw_ops, "FusedBatchNormV3", kernel)
    layer = BatchNormalization(**arguments)
    layer(np.zeros(shape, "float32"), training=True, mask=mask)
    assert depths[0][0] == "call"
    assert len(depths[0]) <= at_most, depths[0]
