"""On an NVIDIA GPU that TensorFlow sees (`pip install bnzoo[gpu]`): `pytest -m gpu`."""

import batch_norm_closed_form as closed_form
import exactness
import keras
import numpy as np
import pytest
import tensorflow as tf
from calls import normalize_batch

from bnzoo.layers import BatchNormalization
from bnzoo.ops.kernels import on_gpu

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu():
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow sees no NVIDIA GPU: pip install bnzoo[gpu] on a machine with one")


def test_a_visible_gpu_takes_the_compiled_formula():
    layer = BatchNormalization()
    for shape in ((32, 64), (128, 32, 32, 64), (128, 64, 32, 32)):
        assert layer.implementation_for(tf.ones(shape)).implementation == "xla"
    assert layer.implementation_for(keras.Input((32, 32, 64))).implementation == "xla"


def test_a_cpu_scope_takes_the_processors_way():
    with tf.device("CPU:0"):
        assert not on_gpu()
        choice = BatchNormalization().implementation_for(tf.ones((128, 32, 32, 64)))
    assert on_gpu()
    assert choice.implementation == "fused"


@pytest.mark.parametrize("mode", ["eager", "graph", "unknown", "jit_compile"])
@pytest.mark.parametrize("implementation", ["auto", "reference", "xla"])
@pytest.mark.parametrize("layout", [*exactness.LAYOUTS, *exactness.ODD_LAYOUTS])
def test_every_offset_is_exact(layout, implementation, mode):
    shape, axis = (exactness.LAYOUTS | exactness.ODD_LAYOUTS)[layout]

    def compute(x):
        options = {"axis": axis, "implementation": implementation}
        outputs, _, variance, _ = normalize_batch(x, **options)
        return outputs, variance

    if mode != "eager":
        spec = tf.TensorSpec([None if mode == "unknown" else shape[0], *shape[1:]])
        compute = tf.function(compute, input_signature=[spec], jit_compile=mode == "jit_compile")
    for make in (exactness.noise, *exactness.ODD):
        assert exactness.too_large(compute, make, shape, axis) == {}, make.__name__


@pytest.mark.parametrize("implementation", ["auto", "fused", "reference", "xla"])
@pytest.mark.parametrize("shape", [(64, 16), (32, 8, 8, 16), (8, 4, 4, 4, 8)])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_gradients_are_those_of_the_closed_form(offset, shape, implementation):
    random = np.random.default_rng(0)
    x = (random.normal(size=shape) + offset).astype("float32")
    upstream = random.normal(size=shape).astype("float32")
    gamma = random.uniform(0.5, 1.5, shape[-1]).astype("float32")
    tensors = tf.constant(x), tf.constant(gamma), tf.zeros(shape[-1])
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = normalize_batch(*tensors, implementation=implementation)[0]
        loss = tf.reduce_sum(outputs * upstream)
    expected = closed_form.gradients(x, upstream, gamma)
    for one, other in zip(tape.gradient(loss, tensors), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=3e-4 * max(1, np.abs(other).max()))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_cudnn_keeps_keras_moving_statistics(dtype):
    x = np.random.default_rng(0).normal(3.0, 2.0, (32, 8, 8, 16)).astype("float32")
    half = tf.cast(x, dtype)
    exact = tf.cast(half, "float64").numpy()
    layer = BatchNormalization(momentum=0.0, implementation="fused", autocast=False)
    layer(half, training=True)
    np.testing.assert_allclose(layer.moving_mean, exact.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, exact.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("implementation", ["auto", "fused"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_batches_move_nothing(bad, implementation):
    layer = BatchNormalization(implementation=implementation)
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 16)).astype("float32")
    layer(x, training=True)
    before = [weight.numpy().tobytes() for weight in layer.non_trainable_variables]
    x[1, 2, 3, 4] = bad
    assert np.isnan(layer(x, training=True).numpy()).any()
    assert [weight.numpy().tobytes() for weight in layer.non_trainable_variables] == before


def test_fit_learns_on_uneven_batches():
    x = np.random.default_rng(0).normal(2.0, 3.0, (70, 16, 16, 8)).astype("float32")
    layers = [keras.Input((16, 16, 8)), BatchNormalization(), keras.layers.Conv2D(4, 3)]
    model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=False)
    history = model.fit(x, x[:, 0, 0, :1], batch_size=32, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
