import math

import keras
import numpy as np
import pytest

import bnzoo.layers
from bnzoo.config.models import MODEL_NAMES
from bnzoo.errors import InputError
from bnzoo.models import build, list_models
from bnzoo.models.build import BUILDERS


def layer_names(model):
    return [layer.name for layer in model.layers]


def test_every_schema_has_a_builder():
    assert sorted(BUILDERS) == list(MODEL_NAMES) == list_models()


def test_models_are_uncompiled_and_return_logits():
    model = build("dense", input_shape=(5,), classes=3)
    assert not model.compiled
    assert model.layers[-1].activation is keras.activations.linear
    logits = model(10 * np.random.default_rng(0).normal(size=(8, 5)))
    assert not np.allclose(np.sum(logits, axis=1), 1)


@pytest.mark.parametrize(
    ("placement", "order"),
    [
        ("none", ["conv_1", "relu_1", "pool"]),
        ("before", ["conv_1", "bn_1", "relu_1", "pool"]),
        ("after", ["conv_1", "relu_1", "bn_1", "pool"]),
    ],
)
def test_placement_orders_the_block(placement, order):
    assert layer_names(build("one_conv", placement))[1:-2] == order


def test_activation_names_its_layer():
    assert "tanh_1" in layer_names(build("dense", activation="tanh"))
    assert layer_names(build("dense", activation="linear")) == [
        "inputs",
        "dense_1",
        "bn_1",
        "logits",
    ]


def test_bare_conv1d_has_an_activation_only_when_asked_for():
    assert layer_names(build("conv1d", activation="relu")) == ["inputs", "conv_1", "bn_1", "relu_1"]
    assert "relu_1" in layer_names(build("conv1d", classes=2))
    assert "relu_1" not in layer_names(build("conv1d", classes=2, activation="linear"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"momentum": 0.9, "epsilon": 1e-5, "unbiased_moving_variance": True},
        {"center": False, "scale": False, "synchronized": True},
        {
            "renorm": True,
            "renorm_clipping": {"rmax": 3, "rmin": 0.5, "dmax": 5},
            "renorm_momentum": 0.8,
        },
    ],
)
def test_batch_norm_arguments_reach_every_normalization(arguments):
    model = build("three_conv", batch_norm=arguments)
    layers = [layer for layer in model.layers if layer.name.startswith("bn_")]
    assert len(layers) == 3
    for layer in layers:
        assert isinstance(layer, bnzoo.layers.BatchNormalization)
        config = layer.get_config()
        assert {key: config[key] for key in arguments} == arguments


def test_batch_norm_defaults_are_the_layers_own():
    config = build("one_conv").get_layer("bn_1").get_config()
    own = bnzoo.layers.BatchNormalization(name="bn_1").get_config()
    changing = {"dtype", "build_config"}
    assert {k: v for k, v in config.items() if k not in changing} == {
        k: v for k, v in own.items() if k not in changing
    }


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("three_conv", {"input_shape": (8, 8, 1), "filters": [8, 3, 6]}),
        ("resnet", {"input_shape": (8, 8, 1), "depth": 8, "width": 0.5}),
        ("resnet", {"input_shape": (32, 32, 1), "depth": 18, "width": 0.1}),
        ("lenet", {}),
        ("vgg", {"input_shape": (8, 8, 1), "filters": [[4], [4, 5]], "units": [6]}),
        ("conv1d", {"input_shape": (None, 4)}),
    ],
)
@pytest.mark.parametrize("placement", ["before", "after"])
def test_group_normalization_stands_wherever_batch_normalization_would(name, parameters, placement):
    arguments = {"epsilon": 0.02, "scale": False}
    model = build(name, placement, **parameters, group_norm=4, batch_norm=arguments)
    usual = build(name, placement, **parameters)
    assert layer_names(model) == layer_names(usual)
    for layer, other in zip(model.layers, usual.layers, strict=True):
        if isinstance(other, bnzoo.layers.BatchNormalization):
            assert type(layer) is keras.layers.GroupNormalization
            assert (layer.epsilon, layer.scale, layer.center) == (0.02, False, True)
            channels = layer.input.shape[-1]
            assert layer.groups == (math.gcd(4, channels) if layer.input.shape[1:-1] else 1)
        else:
            assert type(layer) is type(other)
    assert all(weight.trainable for weight in model.weights)


def test_an_example_is_normalized_by_its_groups_alone():
    model = build("one_conv", filters=[6], input_shape=(5, 5, 1), group_norm=4)
    x = np.random.default_rng(0).normal(size=(3, 5, 5, 1)).astype("float32")
    before, after = (keras.Model(model.input, model.get_layer(name).output)(x).numpy()
                     for name in ("conv_1", "bn_1"))  # fmt: skip
    parts = before.astype("float64").reshape(3, 25, 2, 3)  # of 4 and 6 the common divisor is 2
    mean, variance = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    expected = ((parts - mean) / np.sqrt(variance + 0.001)).reshape(after.shape)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    np.testing.assert_allclose(model(x[:1]), model(x)[:1], atol=1e-6)


def test_group_normalization_has_the_weights_that_batch_normalization_trains():
    for use_bias in (True, False):
        models = [build("three_conv", group_norm=groups, use_bias=use_bias) for groups in (None, 8)]
        shapes = [[tuple(one.shape) for one in model.trainable_weights] for model in models]
        assert shapes[0] == shapes[1]


def test_without_a_placement_there_is_no_group_normalization():
    names = layer_names(build("dense", "none", group_norm=4))
    assert not [name for name in names if name.startswith("bn_")]


@pytest.mark.parametrize(
    ("name", "placement", "expected"),
    [
        ("lenet", "before", {"logits"}),
        ("lenet", "after", {"conv_1", "conv_2", "dense_3", "dense_4", "logits"}),
        ("lenet", "none", {"conv_1", "conv_2", "dense_3", "dense_4", "logits"}),
        ("conv1d", "after", set()),  # without an activation BN still comes right after
    ],
)
def test_use_bias_false_drops_only_idle_biases(name, placement, expected):
    model = build(name, placement, use_bias=False)
    assert {layer.name for layer in model.layers if getattr(layer, "use_bias", 0)} == expected


def test_dropped_biases_were_idle():
    with_bias = build("one_conv", input_shape=(6, 6, 1), classes=3)
    without = build("one_conv", input_shape=(6, 6, 1), classes=3, use_bias=False)
    kernel, _ = with_bias.get_layer("conv_1").get_weights()
    with_bias.get_layer("conv_1").set_weights([kernel, np.array([*range(16)], "float32")])
    without.get_layer("conv_1").set_weights([kernel])
    without.get_layer("logits").set_weights(with_bias.get_layer("logits").get_weights())
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 1)).astype("float32")
    # Offsets up to 15 cost four of float32's 24 bits.
    np.testing.assert_allclose(with_bias(x, training=True), without(x, training=True), atol=2e-5)


def test_dense_takes_images():
    model = build("dense", input_shape=(4, 4, 1))
    assert layer_names(model)[:3] == ["inputs", "flatten", "dense_1"]
    assert model.get_layer("dense_1").kernel.shape == (16, 64)


def test_channels_are_last_whatever_keras_is_configured_to():
    shape = build("lenet").get_layer("conv_2").output.shape
    keras.config.set_image_data_format("channels_first")
    try:
        assert build("lenet").get_layer("conv_2").output.shape == shape == (None, 10, 10, 16)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_followed_weights_of_the_published_figure_exist():
    assert build("three_conv").get_layer("conv_3").kernel.shape == (3, 3, 16, 16)


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("lent", {}, ["'lent'", "Did you mean 'lenet'", "three_conv"]),
        (3, {}, ["got 3", "conv1d"]),
        ("lenet", {"placement": "befor"}, ["placement", "'befor'", "Did you mean 'before'?"]),
        ("lenet", {"filterz": [1, 2]}, ["'filterz'", "Did you mean 'filters'?"]),
        ("lenet", {"filters": [32, -64]}, ["filters", "[32, -64]", "channels of one block"]),
        ("lenet", {"batch_norm": {"momentumm": 1}}, ["batch_norm.momentumm", "'momentum'"]),
        ("lenet", {"input_shape": (8, 8, 1)}, ["[8, 8, 1]", "16 x 16"]),
        ("three_conv", {"input_shape": (1, 9, 1)}, ["[1, 9, 1]", "2 x 2"]),
        ("one_conv", {"input_shape": (28, 28)}, ["(28, 28)", "(height, width, channels)"]),
        ("dense", {"input_shape": ()}, ["input_shape", "()"]),
        ("conv1d", {"input_shape": (2, 4)}, ["[2, 4]", "kernel_size = 3"]),
        ("conv1d", {"kernel_size": 200}, ["[128, 256]", "kernel_size = 200"]),
    ],
)
def test_bad_input_says_received_expected_and_what_to_do(name, parameters, words):
    with pytest.raises(InputError) as error:
        build(name, **parameters)
    assert all(word in str(error.value) for word in words), error.value


def test_smallest_images_leave_one_pixel():
    assert build("lenet", input_shape=(16, 16, 1)).get_layer("pool_2").output.shape[1:3] == (1, 1)
    assert build("lenet", input_shape=(10, 10, 1), kernel_size=3).get_layer("flatten")
