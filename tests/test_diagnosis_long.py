"""Whole networks: those of `keras.applications` broken in every way, and healthy ones trained."""

import subprocess
import sys
from pathlib import Path

import broken_models
import keras
import numpy as np
import pytest
from broken_models import compiled, norms
from test_diagnosis import BROKEN, kinds

import bnzoo
import bnzoo.data
from bnzoo.config import load_config, starter_configs, variant_configs
from bnzoo.training import train

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture(scope="module")
def cifar(data_dir):
    splits = bnzoo.data.load("cifar10", batch_size=32, image_size=(64, 64))
    batches = splits.train.take(200).as_numpy_iterator()
    return [np.concatenate(one) for one in zip(*batches, strict=True)]


@pytest.fixture(scope="module")
def some(cifar):
    return tuple(part[:512] for part in cifar)


@pytest.fixture(scope="module")
def trained(cifar):
    return broken_models.application(*cifar)


@pytest.fixture
def model(trained):
    copy = keras.models.clone_model(trained)
    compiled(copy).optimizer.build(copy.trainable_variables)
    copy.set_weights(trained.get_weights())
    copy.optimizer.iterations.assign(trained.optimizer.iterations)
    return copy


def test_mobilenet_trained_for_200_steps_has_no_problem(model, some):
    found = bnzoo.diagnose(model, some)
    assert not found.problems, str(found)
    assert not bnzoo.diagnose(model).problems


def causes(kinds_of):
    """ReLU6 makes a number of NaN, so that one poisoned channel may cost nothing here."""
    return kinds_of - ({"modes"} if "not_finite" in kinds_of else set())


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_mobilenet_is_diagnosed_right(model, some, how):
    layer = model.get_layer("bn_Conv1")  # all that follows depends on it
    getattr(broken_models, how)(model, some, layer)
    found = bnzoo.diagnose(model, some)
    assert causes(kinds(found)) == causes(BROKEN[how]), str(found)
    named = {one.layer for one in found.problems if one.layer}
    # A depthwise convolution hands on which channels are dead.
    behind = {"expanded_conv_depthwise_BN"} if "dead_channels" in BROKEN[how] else set()
    assert layer.name in named
    if how != "never_trained":
        assert named <= {layer.name} | behind


@pytest.mark.parametrize(
    ("first", "second"), [("too_wide", "never_positive"), ("poisoned", "without_gamma")]
)
def test_two_at_once_in_a_mobilenet(model, some, first, second):
    getattr(broken_models, second)(model, some, model.get_layer("block_5_expand_BN"))
    getattr(broken_models, first)(model, some, norms(model)[0])
    found = bnzoo.diagnose(model, some)
    assert causes(kinds(found)) == causes(BROKEN[first] | BROKEN[second]), str(found)


@pytest.mark.parametrize(
    "name", sorted(name for name, path in starter_configs().items() if path.parent.name != "claims")
)
def test_trained_starters_have_no_problem(name, data_dir, tmp_path):
    config = load_config(starter_configs()[name])
    if name == "own_images":
        make = SCRIPTS / "make_example_images.py"
        subprocess.run([sys.executable, make, tmp_path / "images"], check=True)
        images = [f"data.name=folder:{tmp_path / 'images'}"]
        config = load_config(starter_configs()[name], images)
    variants = variant_configs(config) if config.compare else {name: config.single_run()}
    for variant, one in variants.items():
        if one.model.placement == "none":
            continue
        train(one, tmp_path / variant)
        model = bnzoo.load_model(tmp_path / variant)
        splits = bnzoo.data.load(**one.data.model_dump(), seed=one.seed)
        found = bnzoo.diagnose(model, splits.train, 2048)
        assert found.record["modes"]["inference"]
        assert not found.problems, f"{variant}: {found}"


def test_the_worked_example_collapses_and_is_repaired(data_dir, tmp_path):
    script = SCRIPTS / "fine_tune_digits.py"
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True)
    splits = bnzoo.data.load("mnist", batch_size=4, image_size=(32, 32))

    def accuracy(model):
        return model.evaluate(splits.test, verbose=0)[1]

    collapsed = bnzoo.load_model(tmp_path / "collapsed.keras")
    found = bnzoo.diagnose(collapsed, splits.train, 2048)
    assert {"modes", "far_statistics"} <= kinds(found)
    assert found.findings[0].command == "bnzoo.recalibrate(model, data)"
    before = accuracy(collapsed)
    assert before < 0.6
    assert accuracy(bnzoo.recalibrate(collapsed, splits.train, 2048)) > before + 0.3
    assert "modes" not in kinds(bnzoo.diagnose(collapsed, splits.train, 2048))
    frozen = bnzoo.load_model(tmp_path / "frozen.keras")
    assert accuracy(frozen) > before
    assert "modes" not in kinds(bnzoo.diagnose(frozen, splits.train, 2048))
