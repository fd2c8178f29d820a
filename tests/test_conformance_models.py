"""What every model does, whatever its placement: the same checks over `cases.MODELS`."""

import cases
import keras
import numpy as np
import pytest
import tensorflow as tf

from bnzoo.models import build, list_models

PLACEMENTS = ("none", "before", "after")
# Other orders of float32 sums; logits are of order 1.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def case_id(case) -> str:
    name, parameters = case
    return name if "classes" in parameters or name != "conv1d" else "bare_conv1d"


def placed_cases():
    for case in cases.MODELS:
        for placement in PLACEMENTS:
            is_slow = case[0] in cases.SLOW_MODELS and placement != "before"
            marks = [pytest.mark.slow] if is_slow else []
            yield pytest.param((case, placement), marks=marks, id=f"{case_id(case)}-{placement}")


@pytest.fixture(params=placed_cases())
def placed_case(request):
    return request.param


@pytest.fixture
def case(placed_case):
    return placed_case[0]


@pytest.fixture
def placement(placed_case) -> str:
    return placed_case[1]


@pytest.fixture
def model(case, placement) -> keras.Model:
    name, parameters = case
    return build(name, placement, **parameters)


def inputs(model, batch_size=6) -> np.ndarray:
    """Random samples; of sequences the last one has a padded step."""
    shape = [size or 8 for size in model.input_shape[1:]]
    x = np.random.default_rng(4).random((batch_size, *shape), dtype="float32")
    if len(shape) == 2:
        x[-1, -1] = -1
    return x


def targets(model, x) -> tuple[np.ndarray, keras.losses.Loss]:
    """Labels for a classifier, else values of the shape of the outputs."""
    if len(model.output_shape) == 2:
        classes = np.arange(len(x)) % model.output_shape[-1]
        return classes, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    values = np.random.default_rng(5).random((len(x), *model.output_shape[1:]))
    return values.astype("float32"), keras.losses.MeanSquaredError()


def outputs(model, x) -> np.ndarray:
    return np.asarray(model(x, training=False))


def train_one_step(model):
    x = inputs(model)
    y, loss = targets(model, x)
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
    return model.train_on_batch(x, y)


def test_every_model_has_a_case():
    assert sorted({name for name, _ in cases.MODELS}) == list_models()


def test_config_rebuilds_the_model(model):
    rebuilt = keras.Model.from_config(model.get_config())
    cloned = keras.models.clone_model(model)
    for copy in (rebuilt, cloned):
        assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
        copy.set_weights(model.get_weights())
        np.testing.assert_array_equal(outputs(copy, inputs(model)), outputs(model, inputs(model)))


def test_static_and_unknown_batch_sizes(model):
    x = inputs(model)
    assert model.output_shape[0] is None
    static = keras.Input(batch_shape=x.shape)
    assert model(static).shape == outputs(model, x).shape
    one_by_one = [outputs(model, sample[np.newaxis])[0] for sample in x]
    np.testing.assert_allclose(outputs(model, x), one_by_one, **CLOSE)


def test_eager_graph_and_xla_agree(model):
    x = tf.constant(inputs(model))
    start = model.get_weights()

    def predict_and_train(x):
        return model(x, training=False), model(x, training=True)

    graph = tf.function(predict_and_train, jit_compile=False)
    compiled = tf.function(predict_and_train, jit_compile=True)
    results = []
    for function in (predict_and_train, graph, compiled):
        model.set_weights(start)
        results.append([*function(x), *model.get_weights()])
    for other in results[1:]:
        for expected, value in zip(results[0], other, strict=True):
            np.testing.assert_allclose(value, expected, **CLOSE)


def test_mixed_precision_trains_and_returns_float32_logits(case, placement):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = build(case[0], placement, **case[1])
        loss = train_one_step(model)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(loss)
    hidden = [layer for layer in model.layers if layer.name in ("conv_1", "dense_1")]
    assert [layer.compute_dtype for layer in hidden] == ["float16"]
    is_classifier = "classes" in case[1]
    assert outputs(model, inputs(model)).dtype == ("float32" if is_classifier else "float16")
    assert {weight.dtype for weight in model.weights} == {"float32"}


def test_one_step_changes_every_weight_and_stays_finite(model):
    start = model.get_weights()
    assert np.isfinite(train_one_step(model))
    idle = idle_biases(model)
    for weight, before, after in zip(model.weights, start, model.get_weights(), strict=True):
        assert np.isfinite(after).all(), weight.path
        if weight.path not in idle:
            assert not np.array_equal(before, after), weight.path


def idle_biases(model) -> set[str]:
    """Biases just before a normalization: their gradient is zero but for rounding."""
    pairs = zip(model.layers, model.layers[1:], strict=False)
    normalized = [layer for layer, following in pairs if following.name.startswith("bn_")]
    return {layer.bias.path for layer in normalized if getattr(layer, "bias", None) is not None}


def test_saved_file_loads_in_safe_mode(model, tmp_path):
    model(inputs(model), training=True)  # moving statistics other than their start
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(outputs(loaded, inputs(model)), outputs(model, inputs(model)))


def test_saved_model_predicts_the_same(model, tmp_path):
    model(inputs(model), training=True)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))  # owns the variables
    for batch_size in (1, 6):
        x = inputs(model, batch_size)
        np.testing.assert_allclose(exported.serve(x), outputs(model, x), **CLOSE)


def test_normalization_adds_four_numbers_per_channel(case, placement):
    name, parameters = case[0], {**case[1], "use_bias": True}
    model = build(name, placement, **parameters)
    normalized = [layer for layer in model.layers if layer.name.startswith("bn_")]
    channels = sum(layer.output.shape[-1] for layer in normalized)
    plain = build(name, "none", **parameters)
    assert model.count_params() == plain.count_params() + 4 * channels
    assert (channels > 0) == (placement != "none")
