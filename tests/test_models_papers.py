"""The papers' networks: where their layers stand, what they are called, what they refuse."""

import keras
import numpy as np
import pytest

from bnzoo.config.models.inception import REDUCING_BLOCKS, Inception
from bnzoo.errors import InputError
from bnzoo.models import ZeroPaddedShortcut, build
from bnzoo.models.inception import ROWS


def names(model) -> list[str]:
    return [layer.name for layer in model.layers]


def into(model, name) -> list[str]:
    """Return the names of the layers whose outputs a layer takes."""
    inputs = model.get_layer(name).input
    inputs = inputs if isinstance(inputs, list) else [inputs]
    return [one._keras_history.operation.name for one in inputs]


def test_resnet_50_gives_the_outputs_of_keras_applications_with_its_weights():
    shape = {"input_shape": (64, 64, 3), "classes": 7}
    theirs = keras.applications.ResNet50(weights=None, classifier_activation=None, **shape)
    epsilon = {"epsilon": 1.001e-5}
    ours = build("resnet", depth=50, use_bias=True, stem="full", batch_norm=epsilon, **shape)
    assert ours.count_params() == theirs.count_params() == 25_636_712 - 993 * 2049
    random = np.random.default_rng(0)
    weights = [
        weight.numpy() if weight.path.endswith("kernel") else random.uniform(0.5, 1.5, weight.shape)
        for weight in theirs.weights
    ]
    theirs.set_weights(weights)
    ours.set_weights(weights)
    x = random.random((2, 64, 64, 3), dtype="float32")
    expected = theirs(x).numpy()
    # Their blocks add the same numbers in the same order.
    np.testing.assert_allclose(ours(x), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("preactivation", [False, True])
def test_layer_55_of_resnet_110_is_the_second_convolution_of_block_27(preactivation):
    model = build("resnet", depth=110, preactivation=preactivation)
    assert model.get_layer("conv_55").kernel.shape == (3, 3, 32, 32)
    assert "conv_55" in {*into(model, "add_27"), *into(model, "bn_55")}
    assert {"add_54", "conv_109"} <= set(names(model))
    assert "add_55" not in names(model)


@pytest.mark.parametrize(
    ("placement", "preactivation", "order", "sum_of"),
    [
        ("none", False, "conv_2 relu_2 conv_3 add_1 relu_3", "relu_1 conv_3"),
        ("before", False, "conv_2 bn_2 relu_2 conv_3 bn_3 add_1 relu_3", "relu_1 bn_3"),
        ("after", False, "conv_2 relu_2 bn_2 conv_3 add_1 relu_3 bn_3", "bn_1 conv_3"),
        ("none", True, "conv_2 relu_2 conv_3 add_1 relu_3", "relu_1 conv_3"),
        ("before", True, "conv_2 bn_2 relu_2 conv_3 add_1 bn_3 relu_3", "relu_1 conv_3"),
        ("after", True, "conv_2 relu_2 bn_2 conv_3 add_1 relu_3 bn_3", "bn_1 conv_3"),
    ],
)
def test_where_normalization_stands_in_a_block(placement, preactivation, order, sum_of):
    model = build("resnet", placement, depth=8, preactivation=preactivation)
    found = names(model)
    assert found[found.index("conv_2") : found.index("pad_4")] == order.split()
    assert into(model, "add_1") == sum_of.split()
    # An unchanged shortcut passes on the sum itself only where nothing stands on its way.
    assert into(model, "shortcut_2") == (["add_1"] if preactivation else [order.split()[-1]])


@pytest.mark.parametrize("preactivation", [False, True])
def test_projections_take_what_the_convolutions_take(preactivation):
    small = {"depth": 18, "width": 0.05, "input_shape": (32, 32, 3)}
    model = build("resnet", preactivation=preactivation, **small)
    assert into(model, "conv_shortcut_3") == into(model, "pad_6") == ["relu_5"]
    assert ("bn_shortcut_3" in names(model)) == (not preactivation)
    assert build("resnet", "after", **small).get_layer("bn_shortcut_3")
    assert "bn_shortcut_3" not in names(build("resnet", "none", **small))


def test_use_bias_false_keeps_the_biases_that_matter_in_a_block():
    def biased(placement, **more):
        small = {"depth": 18, "width": 0.05, "input_shape": (32, 32, 3)}
        layers = build("resnet", placement, **small, **more).layers
        convolutions = [layer for layer in layers if isinstance(layer, keras.layers.Conv2D)]
        return {layer.name for layer in convolutions if layer.use_bias}

    every = {f"conv_{index}" for index in range(1, 18)}
    shortcuts = {f"conv_shortcut_{block}" for block in (3, 5, 7)}
    assert biased("before") == biased("before", preactivation=True) == set()
    assert biased("after") == every
    assert biased("none") == biased("none", use_bias=True) == every | shortcuts


def test_shortcut_without_parameters_takes_every_second_pixel_and_adds_zeros():
    x = np.arange(2 * 5 * 4 * 3, dtype="float32").reshape(2, 5, 4, 3)
    y = ZeroPaddedShortcut(5, 2)(x)
    assert y.shape == (2, 3, 2, 5)
    np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
    assert not np.any(y[..., 3:])


@pytest.mark.parametrize("name", ["inception", "resnet"])
def test_small_images_enter_without_the_strides_of_the_stem(name):
    depth = {"depth": 18} if name == "resnet" else {"blocks": ["3a"]}
    sizes = {
        (size, stem): build(name, input_shape=(size, size, 3), width=0.05, stem=stem, **depth)
        for size, stem in [(32, None), (95, None), (96, None), (32, "full"), (96, "small")]
    }
    kernels = {case: model.get_layer("conv_1").kernel.shape[0] for case, model in sizes.items()}
    assert kernels == {
        (32, None): 3,
        (95, None): 3,
        (96, None): 7,
        (32, "full"): 7,
        (96, "small"): 3,
    }
    before_average = {
        case: model.get_layer("average").input.shape[1] for case, model in sizes.items()
    }
    assert before_average[32, None] == (4 if name == "resnet" else 32)
    assert before_average[32, "full"] == (1 if name == "resnet" else 4)
    assert build(name, input_shape=(224, 224, 3), width=0.05, **depth).get_layer(
        "average"
    ).input.shape[1] == (7 if name == "resnet" else 28)


def test_networks_for_cifar_have_a_small_stem_whatever_the_image():
    assert build("resnet", depth=8, input_shape=(96, 96, 3)).get_layer("conv_1").strides == (1, 1)
    full = build("resnet", depth=8, input_shape=(96, 96, 3), stem="full")
    assert full.get_layer("conv_1").strides == (2, 2)


def test_inception_has_the_paper_s_sizes():
    model = build("inception")
    shapes = {name: model.get_layer(f"block_{name}").output.shape[1:] for name in ROWS}
    assert shapes == {
        "3a": (28, 28, 256),
        "3b": (28, 28, 320),
        "3c": (14, 14, 576),
        "4a": (14, 14, 576),
        "4b": (14, 14, 576),
        "4c": (14, 14, 608),  # 576 in the paper's column of sizes, 608 by its branches
        "4d": (14, 14, 608),
        "4e": (7, 7, 1056),
        "5a": (7, 7, 1024),
        "5b": (7, 7, 1024),
    }


def test_rows_are_those_that_a_config_can_name():
    assert tuple(ROWS) == Inception(name="inception").blocks
    assert tuple(name for name, row in ROWS.items() if not row.one) == REDUCING_BLOCKS


def test_a_small_inception_has_about_100_000_parameters():
    blocks = ["3a", "3b", "3c", "4a", "4b"]
    small = {"filters": [24, 48], "blocks": blocks, "width": 0.2, "input_shape": (32, 32, 3)}
    assert build("inception", classes=10, **small).count_params() == 102_180


def test_vgg_6_has_three_stages_and_averages_over_pixels():
    model = build("vgg", filters=[[16, 16], [32, 32], [64, 64]])
    assert model.get_layer("pool_3").output.shape == (None, 4, 4, 64)
    assert names(model)[-3:] == ["pool_3", "average", "logits"]
    assert model.count_params() == 73_626


def test_vgg_a_at_32_pixels_has_one_pixel_left():
    assert build("vgg", input_shape=(32, 32, 3)).get_layer("pool_5").output.shape[1:] == (1, 1, 512)


@pytest.mark.parametrize(
    ("name", "parameters", "dropouts"),
    [
        ("vgg", {"filters": [[4]]}, ["dropout"]),
        ("vgg", {"filters": [[4]], "units": [6, 5]}, ["dropout_1", "dropout_2"]),
        ("inception", {"blocks": ["3a"], "width": 0.05}, ["dropout"]),
    ],
)
def test_dropout_stands_before_the_logits_or_behind_hidden_layers(name, parameters, dropouts):
    def layers(**more):
        model = build(name, input_shape=(8, 8, 1), **parameters, **more)
        return [one for one in model.layers if isinstance(one, keras.layers.Dropout)]

    assert [(one.name, one.rate) for one in layers(dropout=0.4)] == [(one, 0.4) for one in dropouts]
    assert layers() == []


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("resnet", {"depth": 21}, ["depth", "got 21", "6n + 2 from 8 to 110"]),
        ("resnet", {"depth": 116}, ["got 116"]),
        ("resnet", {"depth": "20"}, ["got '20'"]),
        ("resnet", {"width": 0}, ["width", "above 0", "got 0"]),
        ("resnet", {"input_shape": (3, 9, 3)}, ["[3, 9, 3]", "4 x 4"]),
        ("resnet", {"depth": 50, "stem": "full", "input_shape": (31, 31, 3)}, ["32 x 32"]),
        ("resnet", {"stem": "ful"}, ["'ful'", "Did you mean 'full'?"]),
        ("inception", {"blocks": ["3a", "6a"]}, ["blocks", "'6a'", "from 3a to 5b"]),
        ("inception", {"blocks": ["3a", "3a"]}, ["different names", "['3a', '3a']"]),
        ("inception", {"input_shape": (3, 3, 3)}, ["[3, 3, 3]", "4 x 4"]),
        ("inception", {"stem": "full", "input_shape": (24, 24, 3)}, ["[24, 24, 3]", "32 x 32"]),
        ("inception", {"filters": [64]}, ["two positive integers", "[64]"]),
        ("inception", {"dropout": 1}, ["dropout", "below 1", "got 1"]),
        ("vgg", {"input_shape": (28, 28, 1)}, ["[28, 28, 1]", "32 x 32"]),
        ("vgg", {"filters": [64, 128]}, ["filters", "[64, 128]", "one stage"]),
        ("vgg", {"filters": []}, ["filters", "got []"]),
        ("vgg", {"filters": [[16], []]}, ["[[16], []]"]),
        ("f1", {"units": [512, 0]}, ["units", "[512, 0]"]),
        ("sigmoid_mlp", {"kernel_scale": 0}, ["kernel_scale", "above 0"]),
        ("sigmoid_mlp", {"initialization": "norm"}, ["'norm'", "Did you mean 'normal'?"]),
    ],
)
def test_bad_values_are_one_line_that_says_what_was_expected(name, parameters, words):
    with pytest.raises(InputError) as error:
        build(name, **parameters)
    text = str(error.value)
    assert len(text.splitlines()) == 1
    assert all(word in text for word in words), text
