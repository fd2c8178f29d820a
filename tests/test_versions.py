"""What Keras and TensorFlow may lack: each private name that is gone costs a warning, no error."""

import doctest
import warnings
from contextlib import contextmanager

import keras
import numpy as np
import pytest
import tensorflow as tf

import bnzoo
from bnzoo import versions
from bnzoo.layers import finding
from bnzoo.ops import kernels, layouts
from bnzoo.surgery import graph
from bnzoo.training import settings


@pytest.fixture
def hide(monkeypatch):
    """Return a function that lets a module of bnzoo find no private name."""

    def hide(module):
        find = versions.private
        monkeypatch.setattr(
            module, "private", lambda owner, name, without: find(object(), name, without)
        )

    versions._warn_once.cache_clear()
    layouts._tensorflow_barrier.cache_clear()
    yield hide
    layouts._tensorflow_barrier.cache_clear()


@contextmanager
def one_warning(text):
    """Expect one warning of ours that says a text, whatever others warn of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    ours = [str(one.message) for one in caught if str(one.message).startswith("bnzoo uses")]
    assert len(ours) == 1
    assert text in ours[0]


def images(channels=8):
    return np.random.default_rng(0).normal(size=(32, 16, 16, channels)).astype("float32")


def small_model(*more):
    stack = [keras.layers.Conv2D(8, 3), bnzoo.BatchNormalization(), *more]
    return keras.Sequential([keras.Input((16, 16, 8)), *stack])


def test_a_training_step_takes_plain_operations_with_one_warning(hide):
    hide(kernels)
    x, layer = images(32), bnzoo.BatchNormalization()
    step = tf.function(lambda x: layer(x, training=True), autograph=False)
    with one_warning("_get_control_flow_context"):
        outputs = step(x)
        step(x[:16])
    assert "FusedBatchNorm" not in {
        node.op for node in step.get_concrete_function(x).graph.as_graph_def().node
    }
    expected = bnzoo.BatchNormalization(implementation="reference")(x, training=True)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_sums_in_parts_are_right_without_the_barrier(hide):
    hide(layouts)
    x = tf.constant(images())
    layout = layouts.Layout("batched", ndim=4, axis=3, channels=8, sums="parts", parts=4)
    with one_warning("xla_optimization_barrier"):
        sums = layout.reduce_sum(layout.to_layout(x))
    np.testing.assert_allclose(sums, tf.reduce_sum(x, [0, 1, 2]), atol=1e-3)


def test_a_model_whose_graph_is_not_told_is_folded_layer_by_layer(hide):
    hide(graph)
    model = small_model(keras.layers.Dropout(0.5))
    model.layers[1].set_weights([np.full(8, value) for value in (2.0, 0.5, 0.1, 3.0)])
    with one_warning("_nodes_by_depth"):
        folded = bnzoo.fold_batch_norm(model)
    names = [type(layer).__name__ for layer in folded.layers]
    assert names == ["InputLayer", "Conv2D", "MultiplyAdd", "Dropout"]
    np.testing.assert_allclose(folded(images()), model(images()), atol=1e-5)


def test_determinism_can_only_be_switched_on(hide):
    hide(settings)
    with one_warning("Determinism stays"), settings._determinism(True):
        pass
    from tensorflow.python.framework import config

    assert config.is_op_determinism_enabled()
    config.disable_op_determinism()


def test_a_run_keeps_its_graphs(hide):
    hide(settings)
    with one_warning("Memory grows"), settings.gradients_let_go():
        bnzoo.BatchNormalization()(images(), training=True)


def test_bad_batches_are_counted_in_the_model_itself(hide):
    hide(finding)
    model = small_model(keras.layers.Flatten(), keras.layers.Dense(1))
    model.compile("sgd", "mse")
    bad = bnzoo.BadBatches()
    with one_warning("_flatten_layers"):
        model.fit(np.full((4, 16, 16, 8), np.nan), np.zeros(4), verbose=0, callbacks=[bad])
    assert bad.total == 1


def test_this_version_has_every_private_name(hide):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="bnzoo uses")
        kernels.inside_xla()
        layouts._tensorflow_barrier()
        bnzoo.fold_batch_norm(small_model())
        with settings._determinism(True), settings.gradients_let_go():
            pass
        assert callable(versions.private(small_model(), "_flatten_layers", ""))


def test_what_is_in_no_module_is_none_too(hide):
    with pytest.warns(UserWarning, match=r"no.such.module.name, which this TensorFlow and Keras"):
        assert versions.private("no.such.module", "name", "Nothing.") is None


def test_its_examples_give_what_they_show():
    assert doctest.testmod(versions).failed == 0


def test_renorm_has_its_weights_in_any_keras():
    layer = bnzoo.BatchNormalization(
        renorm=True, moving_variance_initializer=keras.initializers.Constant(4.0)
    )
    layer.build((None, 2))
    names = "gamma beta moving_mean moving_variance moving_stddev renorm_mean renorm_stddev"
    assert [weight.name for weight in layer.weights] == names.split()
    assert layer.renorm_stddev.numpy().tolist() == layer.moving_stddev.numpy().tolist() == [2, 2]
    config = layer.get_config()
    assert bnzoo.BatchNormalization.from_config(config).get_config() == config
