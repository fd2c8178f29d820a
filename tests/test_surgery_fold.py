"""Batch normalization merged into its neighbors: the same answers, and nothing of it left."""

from pathlib import Path

import keras
import numpy as np
import pytest
from cases import MODELS
from keras import layers

import bnzoo
from bnzoo import models, surgery
from bnzoo.errors import InputError
from bnzoo.layers import MultiplyAdd

BATCH_NORMS = [keras.layers.BatchNormalization, bnzoo.BatchNormalization]


def every_layer(model):
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from every_layer(layer)


def train_randomly(model, positive=True):
    """Give every weight a value as after training; zeros and ones would hide mistakes."""
    random = np.random.default_rng(0)
    for layer in every_layer(model):
        if isinstance(layer, keras.Model):
            continue
        values = []
        for weight in layer.weights:
            if "variance" in weight.name:
                values.append(random.uniform(0.2, 3.0, weight.shape))
            elif "gamma" in weight.name and positive:
                values.append(random.uniform(0.5, 2.0, weight.shape))
            else:
                values.append(random.normal(0.2, 0.5, weight.shape))
        if values:
            layer.set_weights(values)
    return model


def sequential(shape, *stack):
    return train_randomly(keras.Sequential([keras.Input(shape), *stack]))


def difference(model, folded, size=5, scale=1.0, offset=0.0):
    """Return max |difference| / max |answer| on random inputs."""
    shape = [size or 9 for size in model.input_shape[1:]]
    x = np.random.default_rng(1).normal(offset, scale, (size, *shape)).astype("float32")
    expected = np.asarray(model(x, training=False), "float64")
    return np.abs(expected - np.asarray(folded(x), "float64")).max() / np.abs(expected).max()


def kinds(model):
    names = [type(layer).__name__ for layer in model.layers]
    return [name for name in names if name != "InputLayer"]


@pytest.mark.parametrize("placement", ["none", "before", "after"])
@pytest.mark.parametrize(("name", "params"), MODELS)
def test_every_model_of_the_zoo_answers_the_same(name, params, placement):
    model = train_randomly(models.build(name, placement, **params))
    folded = bnzoo.fold_batch_norm(model)
    assert difference(model, folded) < 1e-5
    assert not surgery.has_batch_norm(folded)
    if placement == "before":
        assert "MultiplyAdd" not in kinds(folded)


BN = layers.BatchNormalization
FOLDED_WHOLLY = {
    "dense": lambda: sequential((5,), layers.Dense(4), BN(), layers.ReLU(), BN(), layers.Dense(3)),
    "dense on sequences": lambda: sequential((6, 5), layers.Dense(4), BN(), layers.Dense(3)),
    "conv1d": lambda: sequential((9, 3), layers.Conv1D(4, 3, padding="causal"), BN()),
    "conv1d behind": lambda: sequential((9, 3), BN(), layers.Conv1D(4, 3)),
    "conv2d": lambda: sequential(
        (7, 6, 3), layers.Conv2D(4, 3, strides=2, padding="same"), BN(), layers.ReLU(), BN(),
        layers.Conv2D(5, 2, dilation_rate=2),
    ),
    "conv2d of 1 x 1, padded": lambda: sequential(
        (7, 6, 3), BN(), layers.Conv2D(4, 1, padding="same")
    ),
    "conv3d": lambda: sequential((4, 5, 4, 2), BN(), layers.Conv3D(4, 2), BN()),
    "grouped": lambda: sequential(
        (6, 6, 4), layers.Conv2D(6, 3, groups=2), BN(), layers.ReLU(), BN(),
        layers.Conv2D(4, 2, groups=2),
    ),
    "depthwise": lambda: sequential(
        (6, 6, 3), layers.DepthwiseConv2D(3, depth_multiplier=2), BN(), layers.ReLU(), BN(),
        layers.DepthwiseConv2D(2, depth_multiplier=2),
    ),
    "depthwise 1d": lambda: sequential((9, 3), BN(), layers.DepthwiseConv1D(3), BN()),
    "separable": lambda: sequential(
        (6, 6, 3), layers.SeparableConv2D(5, 3, depth_multiplier=2), BN(), layers.ReLU(), BN(),
        layers.SeparableConv2D(4, 2, depth_multiplier=3),
    ),
    "separable 1d": lambda: sequential((9, 3), BN(), layers.SeparableConv1D(5, 3), BN()),
    "transposed 1d": lambda: sequential((9, 3), layers.Conv1DTranspose(5, 3), BN()),
    "transposed 2d": lambda: sequential((5, 4, 3), layers.Conv2DTranspose(5, 3, strides=2), BN()),
    "transposed 3d": lambda: sequential((3, 4, 3, 2), layers.Conv3DTranspose(3, 2), BN()),
    "no bias": lambda: sequential((5,), layers.Dense(4, use_bias=False), BN()),
    "without gamma and beta": lambda: sequential(
        (5,), layers.Dense(4), BN(center=False, scale=False)
    ),
    "a chain": lambda: sequential(
        (5,), BN(), BN(), layers.Dense(6), BN(), layers.Dropout(0.5), BN(), layers.ReLU(), BN(),
        BN(), layers.Dense(4),
    ),
    "across a pooling and flattening": lambda: sequential(
        (8, 8, 3), layers.Conv2D(4, 3, activation="relu"), BN(), layers.MaxPooling2D(2),
        layers.Flatten(), layers.Dense(3),
    ),
    "across averages": lambda: sequential(
        (8, 8, 3), layers.ReLU(), BN(), layers.AveragePooling2D(2), layers.GlobalAveragePooling2D(),
        layers.Dense(3),
    ),
    "renorm": lambda: sequential((5,), layers.Dense(4), bnzoo.BatchNormalization(renorm=True)),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDED_WHOLLY)
def test_a_linear_neighbor_takes_it_up(case):
    model = FOLDED_WHOLLY[case]()
    folded = bnzoo.fold_batch_norm(model)
    assert difference(model, folded) < 1e-5
    assert not {"BatchNormalization", "MultiplyAdd", "Dropout"} & set(kinds(folded))


@pytest.mark.parametrize("norm", BATCH_NORMS)
def test_both_batch_normalizations_fold(norm):
    model = sequential((5,), layers.Dense(4), norm())
    assert kinds(bnzoo.fold_batch_norm(model)) == ["Dense"]


def multiply_adds(model):
    return [layer for layer in model.layers if isinstance(layer, MultiplyAdd)]


def parts_used(layer):
    return {name for name, used in layer.uses.items() if used}


def test_a_shift_does_not_go_into_a_padded_convolution_but_the_scale_does():
    model = sequential((6, 6, 3), layers.ReLU(), BN(), layers.Conv2D(4, 3, padding="same"))
    folded = bnzoo.fold_batch_norm(model)
    assert difference(model, folded) < 1e-5
    (left,) = multiply_adds(folded)
    assert parts_used(left) == {"center"}


def test_neither_goes_across_a_maximum_when_a_scale_is_negative():
    model = keras.Sequential(
        [keras.Input((6, 6, 3)), BN(), layers.MaxPooling2D(2), layers.Conv2D(4, 2)]
    )
    train_randomly(model).layers[0].gamma.assign([1.0, -1.0, 2.0])
    folded = bnzoo.fold_batch_norm(model)
    assert difference(model, folded) < 1e-5
    assert kinds(folded) == ["MultiplyAdd", "MaxPooling2D", "Conv2D"]


def test_a_gamma_of_zero_is_folded_and_left_rightly():
    for behind in (layers.Dense(3), layers.ReLU(), layers.Conv1D(3, 3, padding="same")):
        model = sequential((9, 4), BN(), behind)
        model.layers[0].gamma.assign([0.0, 1.0, 0.0, -2.0])
        assert difference(model, bnzoo.fold_batch_norm(model)) < 1e-5


@pytest.mark.parametrize("behind", [layers.ReLU, lambda: layers.Dense(3)])
def test_inputs_far_from_zero_lose_no_digits(behind):
    """`x * scale + shift` would be off by 1e-3 here: the centre must go first."""
    model = sequential((4,), BN(epsilon=1e-5), behind())
    model.layers[0].moving_mean.assign([1e4, -2e4, 1e4, 3e4])
    model.layers[0].moving_variance.assign([1.0, 2.0, 0.5, 1.0])
    folded = bnzoo.fold_batch_norm(model)
    x = np.array([[1e4, -2e4, 1e4, 3e4]]) + np.random.default_rng(0).normal(size=(64, 4))
    x = x.astype("float32")
    norm = model.layers[0]
    mean, variance, gamma, beta = (
        np.asarray(weight, "float64")
        for weight in (norm.moving_mean, norm.moving_variance, norm.gamma, norm.beta)
    )
    exact = (x.astype("float64") - mean) * gamma / np.sqrt(variance + 1e-5) + beta
    if isinstance(model.layers[1], layers.Dense):
        kernel, bias = (np.asarray(weight, "float64") for weight in model.layers[1].weights)
        exact = exact @ kernel + bias
    else:
        exact = np.maximum(exact, 0)
    assert np.abs(np.asarray(folded(x)) - exact).max() < 1e-5


def test_a_shared_layer_and_one_with_several_users_are_left_as_they_are():
    inputs = keras.Input((8,))
    dense, norm = layers.Dense(8), BN()
    x = norm(dense(norm(dense(inputs))))
    y = layers.Dense(8)(x)
    model = train_randomly(keras.Model(inputs, layers.Add()([BN()(y), y, x])))
    folded = bnzoo.fold_batch_norm(model)
    assert difference(model, folded) < 1e-5
    assert len(multiply_adds(folded)) == 2


def test_an_activation_of_its_own_keeps_a_layer_from_taking_it_up():
    model = sequential((5,), layers.Dense(4, activation="relu"), BN(), layers.ReLU())
    folded = bnzoo.fold_batch_norm(model)
    assert difference(model, folded) < 1e-5
    assert kinds(folded) == ["Dense", "MultiplyAdd", "ReLU"]


def test_another_axis_than_the_channels_is_left():
    model = sequential((6, 3), layers.Dense(4), BN(axis=1), layers.Dense(2))
    folded = bnzoo.fold_batch_norm(model)
    assert difference(model, folded) < 1e-5
    assert len(multiply_adds(folded)) == 1


def test_an_output_of_the_model_in_between_stays_what_it_was():
    inputs = keras.Input((5,))
    hidden = layers.Dense(4)(inputs)
    model = train_randomly(keras.Model(inputs, [hidden, BN()(hidden)]))
    folded = bnzoo.fold_batch_norm(model)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    for ours, theirs in zip(folded(x), model(x, training=False), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_nested_models_fold_in_themselves_and_the_outer_one_beside_them():
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(4), BN(), layers.ReLU()], name="in")
    model = sequential((8,), inner, BN(), layers.Dense(3))
    folded = bnzoo.fold_batch_norm(model)
    assert difference(model, folded) < 1e-5
    assert not surgery.has_batch_norm(folded)
    assert kinds(folded.get_layer("in")) == ["Dense", "ReLU"]


def test_masks_go_on_as_before():
    model = sequential(
        (None, 3), layers.Masking(), BN(), layers.Dense(4), BN(), layers.GlobalAveragePooling1D()
    )
    folded = bnzoo.fold_batch_norm(model)
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    x[0, 3:] = 0
    np.testing.assert_allclose(folded(x), model(x, training=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_precisions_fold(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = sequential((6, 6, 3), layers.Conv2D(4, 3), BN(), layers.ReLU(), BN(),
                           layers.Flatten(), layers.Dense(3, dtype="float32"))  # fmt: skip
        folded = bnzoo.fold_batch_norm(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert difference(model, folded) < (1e-6 if policy == "float64" else 1e-2)
    assert folded.layers[1].compute_dtype == model.layers[0].compute_dtype


def test_a_kernel_that_float16_cannot_hold_is_not_made():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = sequential((3,), layers.Dense(2), BN(epsilon=0.0))
    finally:
        keras.config.set_dtype_policy("float32")
    model.layers[1].moving_variance.assign([1e-14, 1.0])
    assert kinds(bnzoo.fold_batch_norm(model)) == ["Dense", "MultiplyAdd"]


def test_the_original_is_left_alone_and_the_new_model_has_its_own_weights():
    model = sequential((5,), layers.Dense(4), BN(), layers.Dense(3))
    model.compile("sgd", "mse")
    before = model.get_weights()
    folded = bnzoo.fold_batch_norm(model)
    for weight in folded.weights:
        weight.assign(weight * 0)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert not folded.compiled
    assert model.layers[0].output.shape == (None, 4)  # still one place where it is used


def test_a_folded_model_is_saved_and_loaded(tmp_path):
    model = sequential((6, 6, 3), layers.ReLU(), BN(), layers.Conv2D(4, 3, padding="same"))
    folded = bnzoo.fold_batch_norm(model)
    folded.save(tmp_path / "folded.keras")
    assert difference(model, bnzoo.load_model(tmp_path / "folded.keras")) < 1e-5


def test_what_is_no_graph_of_layers_is_refused():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = BN()

        def call(self, inputs):
            return self.norm(inputs)

    model = Subclassed()
    model(np.zeros((1, 3)))
    with pytest.raises(InputError, match=r"expected a built functional .* got Subclassed"):
        bnzoo.fold_batch_norm(model)
    with pytest.raises(InputError, match="got Sequential"):
        bnzoo.fold_batch_norm(keras.Sequential([BN()]))


@pytest.mark.parametrize(
    ("received", "named"),
    [
        ("runs/m.keras", "'runs/m.keras'"),
        (Path("m.keras"), repr(Path("m.keras"))),
        (None, "NoneType"),
        (layers.Dense(2), "Dense"),
        ([], "list"),
    ],
    ids=str,
)
def test_what_is_no_model_is_refused_with_what_to_do(received, named):
    with pytest.raises(InputError) as error:
        bnzoo.fold_batch_norm(received)
    message = str(error.value)
    assert message.startswith(f"Received {named}, expected a Keras model.")
    assert "bnzoo.load_model(path)" in message


def test_a_layer_that_cannot_be_copied_is_named_with_what_to_do():
    class Stubborn(layers.Layer):
        def __init__(self, size):
            super().__init__()
            self.size = size

        def call(self, inputs):
            return inputs * self.size

    model = sequential((3,), Stubborn(np.float32(2)), BN())
    with pytest.raises(InputError, match=r"cannot be copied .* fold=False"):
        bnzoo.fold_batch_norm(model)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("offset", [True, False])
def test_multiply_add_applies_the_parts_that_it_has(center, offset):
    layer = MultiplyAdd(axis=1, center=center, offset=offset)
    layer.build((None, 2, 3))
    values = {"center": [1.0, 2.0], "scale": [3.0, 4.0], "offset": [5.0, 6.0]}
    layer.set_weights([np.array(values[name]) for name, used in layer.uses.items() if used])
    x = np.arange(6.0).reshape(1, 2, 3)
    columns = {name: np.array(value)[:, None] for name, value in values.items()}
    expected = (x - center * columns["center"]) * columns["scale"] + offset * columns["offset"]
    np.testing.assert_allclose(layer(x), expected)
    again = MultiplyAdd.from_config(layer.get_config())
    assert again.uses == layer.uses


def test_multiply_add_refuses_an_axis_that_is_none():
    with pytest.raises(ValueError, match="Received axis='last'"):
        MultiplyAdd(axis="last")
    with pytest.raises(ValueError, match="Axis 3 is out of bounds"):
        MultiplyAdd(axis=3).build((None, 2, 3))
