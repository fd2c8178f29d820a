"""What every layer of the list keeps: configs, shapes, modes, precision, training, saving."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import LAYERS
from keras import ops

import bnzoo.layers
from bnzoo.layers import BatchNormalization

IDS = [case[0] for case in LAYERS]
every_layer = pytest.mark.parametrize(
    ("arguments", "shape"), [case[1:] for case in LAYERS], ids=IDS
)


def batch(shape, size=6):
    return np.random.default_rng(1).normal(2.0, 3.0, (size, *shape)).astype("float32")


def model_of(arguments, shape, batch_size=None, **options):
    inputs = keras.Input(shape, batch_size=batch_size)
    return keras.Model(inputs, BatchNormalization(**arguments, **options)(inputs))


def stir(layer):
    """Give every weight a value of its own, so that a forgotten one shows."""
    random = np.random.default_rng(2)
    layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])


def test_everything_public_is_in_the_list():
    # MultiplyAdd, which replaces it in inference, has its tests in test_surgery_fold.py.
    known = ["BatchNormalization", "MultiplyAdd"]
    assert bnzoo.layers.__all__ == known, "add the new layer to tests/cases.py"
    assert len(set(IDS)) == len(IDS)


@every_layer
def test_config_round_trip(arguments, shape):
    layer = BatchNormalization(**arguments)
    again = BatchNormalization.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    serialized = keras.saving.serialize_keras_object(layer)
    assert serialized["registered_name"] == "bnzoo>BatchNormalization"
    again = keras.saving.deserialize_keras_object(serialized)
    assert type(again) is BatchNormalization
    assert again.get_config() == layer.get_config()


@every_layer
def test_static_and_unknown_batch_size(arguments, shape):
    x = batch(shape)
    static, unknown = (model_of(arguments, shape, size) for size in (6, None))
    assert static.output_shape == (6, *shape)
    assert unknown.output_shape == (None, *shape)
    for training in (True, False):
        np.testing.assert_array_equal(static(x, training=training), unknown(x, training=training))
    assert unknown(x[:1], training=True).shape == (1, *shape)


@every_layer
def test_eager_graph_and_xla_agree(arguments, shape):
    x, results = tf.constant(batch(shape)), []
    unknown = [tf.TensorSpec([None, *shape])]
    modes = [
        lambda function: function,
        functools.partial(tf.function, input_signature=unknown),
        functools.partial(tf.function, jit_compile=True),
    ]
    # tests/test_ops_kernels.py: the fused kernel under XLA is an error.
    for compile_it in modes[: 2 if arguments.get("implementation") == "fused" else 3]:
        layer = BatchNormalization(**arguments)
        layer.build(x.shape)
        stir(layer)

        def step(x, layer=layer):
            sources = [x, *(weight.value for weight in layer.trainable_variables)]
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = layer(x, training=True)
                loss = tf.reduce_sum(outputs**3)
            return outputs, *tape.gradient(loss, sources)

        results.append([*compile_it(step)(x), *layer.get_weights()])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            # float32 sums in another order; cubes of outputs up to 4 make the gradients.
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


@every_layer
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_precision(arguments, shape, policy):
    layer = BatchNormalization(**arguments, dtype=policy)
    if policy == "float64" and layer.implementation == "fused":
        pytest.skip("the fused kernel has no float64: an error, see tests/test_ops_kernels.py")
    # 300 squared overflows float16.
    x = batch(shape) * 100
    outputs = layer(x, training=True)
    expected = BatchNormalization(**arguments)(x, training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    variable_dtype = keras.DTypePolicy(policy).variable_dtype
    assert {weight.dtype for weight in layer.weights} == {variable_dtype}
    # One rounding of an input near 1,000 and one of an output near 2; renorm's outputs are larger.
    tolerance = {"mixed_float16": 6e-3, "mixed_bfloat16": 5e-2, "float64": 2e-6}[policy]
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(ops.cast(outputs, "float32"), expected, atol=tolerance * scale)
    # bfloat16 inputs of their own: each is rounded by up to 0.4 %, and means of six are compared.
    statistics = {"mixed_float16": 2e-3, "mixed_bfloat16": 2e-2, "float64": 1e-5}[policy]
    exact = np.asarray(ops.cast(ops.cast(x, layer.compute_dtype), "float64"))
    axes = tuple(np.delete(np.arange(x.ndim), layer.axis))
    momentum = layer.momentum or 0  # of one batch a cumulative average is that batch
    np.testing.assert_allclose(
        layer.moving_mean, exact.mean(axes) * (1 - momentum), rtol=statistics, atol=1e-4
    )


# Keras warns of the layer that has nothing to learn.
@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
@every_layer
def test_one_training_step_moves_every_weight(arguments, shape):
    model = model_of(arguments, shape)
    layer = model.layers[1]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = layer.get_weights()
    x = batch(shape)
    model.fit(x, np.ones_like(x), batch_size=6, epochs=1, verbose=0)
    for weight, old in zip(layer.weights, before, strict=True):
        assert np.isfinite(weight.numpy()).all()
        assert not np.allclose(weight.numpy(), old), f"{weight.name} did not move"


@every_layer
def test_number_of_parameters(arguments, shape):
    layer = BatchNormalization(**arguments)
    layer.build((None, *shape))
    channels = (None, *shape)[layer.axis]
    learned = layer.center + layer.scale
    moving = 5 if layer.renorm else 2
    counter = 1 if layer.momentum is None else 0
    assert layer.count_params() == (learned + moving) * channels + counter
    assert len(layer.trainable_weights) == learned


@every_layer
def test_save_and_reload_in_safe_mode(arguments, shape, tmp_path):
    model = model_of(arguments, shape)
    stir(model.layers[1])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(again.layers[1]) is BatchNormalization
    x = batch(shape)
    np.testing.assert_array_equal(model(x), again(x))
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@every_layer
def test_saved_model_parity(arguments, shape, tmp_path):
    model = model_of(arguments, shape)
    stir(model.layers[1])
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))
    x = batch(shape)
    np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-6, atol=1e-6)  # one rounding
