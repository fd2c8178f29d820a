import math

import keras
import numpy as np
import pytest

from bnzoo.models import build

# fan_in: channels of the input times the positions of the kernel
FAN_IN = {
    "conv_1": 3 * 5 * 5,
    "conv_2": 6 * 5 * 5,
    "dense_3": 5 * 5 * 16,
    "dense_4": 120,
    "logits": 84,
}


@pytest.fixture(scope="module")
def torch_lenet():
    keras.utils.set_random_seed(3)
    return build("lenet", initialization="torch")


@pytest.mark.parametrize("name", FAN_IN)
def test_torch_kernels_and_biases_are_uniform_within_one_over_root_fan_in(torch_lenet, name):
    bound = 1 / math.sqrt(FAN_IN[name])
    kernel, bias = torch_lenet.get_layer(name).get_weights()
    for values in (kernel, bias):
        assert np.abs(values).max() <= bound
        assert np.ptp(values) > 0
    # 450 numbers or more: the standard deviation of a uniform sample's variance is below 5 %.
    assert np.var(kernel) == pytest.approx(bound**2 / 3, rel=0.2)
    assert np.abs(kernel).max() > 0.98 * bound
    assert np.mean(kernel) == pytest.approx(0, abs=0.1 * bound)


def test_torch_biases_use_the_whole_range():
    bias = build("dense", units=[1000], initialization="torch").get_layer("dense_1").bias
    bound = 1 / math.sqrt(784)
    assert np.var(bias) == pytest.approx(bound**2 / 3, rel=0.15)
    assert np.abs(bias).max() > 0.98 * bound


def test_torch_convolutions_over_steps_count_the_kernel():
    kernel, bias = build("conv1d", initialization="torch").get_layer("conv_1").get_weights()
    bound = 1 / math.sqrt(3 * 256)
    assert 0.98 * bound < np.abs(kernel).max() <= bound
    assert 0 < np.abs(bias).max() <= bound


def test_keras_is_glorot_uniform_with_zero_biases():
    kernel, bias = build("dense").get_layer("dense_1").get_weights()
    bound = math.sqrt(6 / (784 + 64))
    assert 0.98 * bound < np.abs(kernel).max() <= bound
    assert not bias.any()


def test_every_layer_has_its_own_numbers():
    model = build("three_conv", initialization="torch")
    second, third = (model.get_layer(name).get_weights() for name in ("conv_2", "conv_3"))
    assert not np.array_equal(second[0], third[0])
    assert not np.array_equal(second[1], third[1])
    # The same numbers on another scale would betray a shared seed.
    kernel, bias = third
    assert not np.allclose(kernel.ravel()[:16], bias)


@pytest.mark.parametrize("initialization", ["keras", "torch"])
def test_seeds_make_weights_reproducible(initialization):
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return build("one_conv", initialization=initialization).get_weights()

    first, again, other = weights(5), weights(5), weights(6)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_normal_kernels_are_those_of_the_sigmoid_network():
    model = build("sigmoid_mlp")
    for layer in (model.get_layer("dense_2"), model.get_layer("logits")):
        kernel, bias = layer.get_weights()
        # 1,000 numbers or more: their standard deviation is within 8 % of the true one.
        assert np.std(kernel) == pytest.approx(0.1, rel=0.1)
        assert np.abs(kernel).max() > 0.25
        assert not bias.any()


def test_he_kernels_have_twice_the_variance_of_one_over_fan_in():
    kernel, bias = build("f1", initialization="he").get_layer("dense_2").get_weights()
    assert np.var(kernel) == pytest.approx(2 / 512, rel=0.02)
    assert not bias.any()


@pytest.mark.parametrize("initialization", ["keras", "torch", "he", "normal"])
def test_kernel_scale_multiplies_the_hidden_kernels_and_nothing_else(initialization):
    def weights(scale):
        keras.utils.set_random_seed(2)
        model = build("lenet", initialization=initialization, kernel_scale=scale)
        return {weight.path: weight.numpy() for weight in model.weights}

    plain, scaled = weights(1), weights(0.01)
    for path, values in plain.items():
        is_hidden = path.endswith("kernel") and not path.startswith("logits")
        expected = values * (0.01 if is_hidden else 1)
        # Numbers near zero are differences of larger ones, and lose digits.
        np.testing.assert_allclose(scaled[path], expected, rtol=1e-5, atol=1e-9)
