"""Models that were saved by an earlier version of the layer load, and answer as they did.

The files were written once, by bnzoo 0.1.0 with TensorFlow 2.21.0 and Keras 3.15.1 on an AMD EPYC,
before the layer was rewritten, and are never written again: `golden/layer_before.keras` was fitted
for 12 steps from random weights, `golden/run_before` is the folder of
`bnzoo train configs/quickstart.yaml --set train.epochs=1` without its `tensorboard/`.
"""

from pathlib import Path

import numpy as np
import pytest
from marks import needs_keras

import bnzoo

pytestmark = needs_keras("3.15", "a model that was saved by it cannot be loaded by older ones")
GOLDEN = Path(__file__).parent / "golden"
SAVED = {
    "a file": ("layer_before.keras", "layer_before.npz"),
    "a run folder": ("run_before", "run_before/outputs.npz"),
}
LAYERS = {
    "plain": {},
    "channels_first": {"axis": 1},
    "cumulative": {"momentum": None},
    "ghosts": {"virtual_batch_size": 4, "momentum": 0.9},
    "unbiased": {"unbiased_moving_variance": True, "epsilon": 1e-5},
    "renorm": {"renorm": True, "renorm_momentum": 0.9},
    "nothing_to_learn": {"center": False, "scale": False, "implementation": "reference"},
}


def assert_close(actual, expected, tolerance):
    """Compare relative to the largest value: what is close to zero is a difference of such."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", SAVED)
def test_what_was_saved_before_answers_as_it_did(name):
    path, answers = SAVED[name]
    model, golden = bnzoo.load_model(GOLDEN / path), np.load(GOLDEN / answers)
    # A few roundings in float32, as on a machine with other instructions.
    assert_close(model(golden["inputs"], training=False), golden["outputs"], 1e-6)


def test_a_layer_that_was_saved_before_has_its_arguments():
    model = bnzoo.load_model(GOLDEN / "layer_before.keras")
    for name, arguments in LAYERS.items():
        layer = model.get_layer(name)
        assert type(layer) is bnzoo.BatchNormalization
        assert {key: getattr(layer, key) for key in arguments} == arguments


def test_weights_that_were_saved_before_stand_where_they_stood():
    model = bnzoo.load_model(GOLDEN / "layer_before.keras")
    golden = np.load(GOLDEN / "layer_before.npz")
    # Those written down beside the answers are from after one more call in training.
    model(golden["inputs"], training=True)
    for index, weight in enumerate(model.weights):
        # Statistics are float32 sums of values up to 10, in another order if need be.
        expected = golden[f"weight_{index}"]
        np.testing.assert_allclose(weight, expected, rtol=2e-5, atol=2e-5, err_msg=weight.path)
    assert f"weight_{len(model.weights)}" not in golden


def test_what_was_saved_before_trains_on_as_it_did():
    model = bnzoo.load_model(GOLDEN / "layer_before.keras")
    golden = np.load(GOLDEN / "layer_before.npz")
    # The roundings of seven layers' statistics, which renorm and small ghosts enlarge.
    assert_close(model(golden["inputs"], training=True), golden["training_outputs"], 2e-5)
    assert model.get_layer("cumulative").num_batches.numpy() == 13
