"""Published examples, PyTorch's conventions, masks in models, and awkward batches."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from bnzoo.layers import BatchNormalization

# Figure 2 of "Exploring the Superhero Role of 2D Batch Normalization in Deep Learning
# Architectures": two images, three channels, 3 x 3.
IMAGES = np.array(
    [
        [
            [[0, 4, 8], [0, 5, 4], [8, 7, 1]],
            [[33, 24, 24], [25, 34, 38], [30, 37, 21]],
            [[96, 91, 84], [87, 98, 91], [96, 85, 82]],
        ],
        [
            [[5, 8, 0], [8, 3, 5], [5, 3, 4]],
            [[24, 36, 29], [25, 24, 28], [22, 33, 29]],
            [[83, 91, 81], [93, 85, 91], [96, 83, 83]],
        ],
    ],
    "float32",
)


def like_pytorch(**arguments):
    """Make a layer with the defaults of PyTorch's BatchNorm: momentum 0.1 there is 0.9 here."""
    return BatchNormalization(
        momentum=0.9, epsilon=1e-5, unbiased_moving_variance=True, **arguments
    )


@pytest.mark.parametrize("axis", [1, -1])
def test_worked_example_of_the_published_figure(axis):
    layer = like_pytorch(axis=axis)
    images = IMAGES if axis == 1 else np.moveaxis(IMAGES, 1, -1)
    outputs = layer(images, training=True).numpy()
    row = outputs[0, 0, 0] if axis == 1 else outputs[0, 0, :, 0]
    # As many digits as the publication prints.
    np.testing.assert_allclose(row, [-1.5882, -0.1222, 1.3439], atol=6e-5)
    np.testing.assert_allclose(layer.moving_mean, [0.4333, 2.8667, 8.8667], atol=6e-5)
    biased = np.array([7.4444, 27.5556, 30.0])
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * biased * 18 / 17, atol=6e-5)


def test_pytorch_example_without_learnable_parameters():
    layer = like_pytorch(center=False, scale=False)
    x = np.random.default_rng(0).normal(3.0, 2.0, (22, 102)).astype("float32")
    exact = x.astype("float64")
    outputs = layer(x, training=True)
    expected = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    np.testing.assert_allclose(outputs, expected, atol=2e-6)  # float32 rounding
    assert layer.trainable_weights == []
    # PyTorch: running = (1 - 0.1) * running + 0.1 * new, the variance divided by n - 1 = 21.
    np.testing.assert_allclose(layer.moving_mean, 0.1 * exact.mean(0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * exact.var(0, ddof=1), rtol=1e-6)


def test_unbiased_moving_variance_leaves_the_output_alone():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    outputs = [
        BatchNormalization(unbiased_moving_variance=flag)(x, training=True)
        for flag in (True, False)
    ]
    np.testing.assert_array_equal(*outputs)


def test_unbiased_moving_variance_counts_unmasked_samples():
    layer = BatchNormalization(momentum=0.0, unbiased_moving_variance=True)
    x = np.array([[[1.0], [3.0], [90.0]]], "float32")
    layer(x, training=True, mask=np.array([[True, True, False]]))
    assert layer.moving_variance.numpy().tolist() == [2.0]


@pytest.mark.parametrize("unbiased", [True, False])
def test_one_sample_moves_towards_zero_variance(unbiased):
    layer = BatchNormalization(momentum=0.5, unbiased_moving_variance=unbiased)
    outputs = layer(np.array([[4.0, 6.0]], "float32"), training=True)
    assert outputs.numpy().tolist() == [[0, 0]]
    assert layer.moving_mean.numpy().tolist() == [2, 3]
    assert layer.moving_variance.numpy().tolist() == [0.5, 0.5]


def test_one_channel():
    layer = BatchNormalization(epsilon=0.0)
    x = np.array([[[1.0], [3.0]]], "float32")
    mask = np.array([[True, True]])
    assert layer(x, training=True, mask=mask).numpy().ravel().tolist() == [-1, 1]


@pytest.mark.parametrize("renorm", [True, False])
def test_empty_and_fully_masked_batches_give_finite_numbers(renorm):
    layer = BatchNormalization(renorm=renorm)
    assert layer(np.zeros((0, 3, 2), "float32"), training=True).shape == (0, 3, 2)
    outputs = layer(np.ones((4, 3, 2), "float32"), training=True, mask=np.zeros((4, 3)))
    assert np.isfinite(outputs.numpy()).all()
    assert all(np.isfinite(weight.numpy()).all() for weight in layer.weights)


def test_unknown_batch_and_spatial_sizes():
    layer = BatchNormalization(momentum=0.0)
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, None, None, 3)
    step = tf.function(
        lambda x: model(x, training=True),
        input_signature=[tf.TensorSpec([None, None, None, 3])],
    )
    for shape in ((2, 4, 5, 3), (3, 2, 2, 3)):
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        step(x)
        np.testing.assert_allclose(layer.moving_variance, x.var((0, 1, 2)), rtol=1e-5)


def test_unknown_sizes_with_a_mask():
    layer = BatchNormalization(axis=1, momentum=0.0)
    specs = [tf.TensorSpec([None, 3, None]), tf.TensorSpec([None, None], tf.bool)]
    step = tf.function(lambda x, mask: layer(x, training=True, mask=mask), input_signature=specs)
    x = np.random.default_rng(0).normal(size=(4, 3, 5)).astype("float32")
    mask = np.random.default_rng(1).uniform(size=(4, 5)) < 0.6
    step(x, mask)
    counted = np.moveaxis(x, 1, -1)[mask]
    np.testing.assert_allclose(layer.moving_mean, counted.mean(0), atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, counted.var(0), rtol=1e-5)


def test_a_mask_travels_through_a_model():
    inputs = keras.Input((4, 2))
    masked = keras.layers.Masking()(inputs)
    layer = BatchNormalization(momentum=0.0)
    normalized = layer(masked)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(normalized))
    x = np.random.default_rng(0).normal(2.0, 1.0, (3, 4, 2)).astype("float32")
    x[:, 2:] = 0
    outputs = model(x, training=True)
    np.testing.assert_allclose(layer.moving_mean, x[:, :2].mean((0, 1)), rtol=1e-6)
    normal = (x - x[:, :2].mean((0, 1))) / np.sqrt(x[:, :2].var((0, 1)) + 1e-3)
    # The pooling averages over unmasked steps only.
    np.testing.assert_allclose(outputs, normal[:, :2].mean(1), atol=1e-5)


def test_integers_are_taken_as_float32():
    layer = BatchNormalization(epsilon=0.0, autocast=False)
    outputs = layer(np.array([[1], [3]]), training=True)
    assert outputs.numpy().tolist() == [[-1.0], [1.0]]
    assert outputs.dtype == tf.float32


def test_float64_inputs_keep_their_digits_in_a_float32_layer():
    x = np.random.default_rng(0).normal(size=(8, 2)) + 1e7
    layer = BatchNormalization(autocast=False, epsilon=0.0)
    outputs = layer(tf.constant(x), training=True)
    assert outputs.dtype == tf.float32
    np.testing.assert_allclose(outputs, (x - x.mean(0)) / x.std(0), atol=1e-6)


def test_inference_and_frozen_layers_move_nothing():
    layer = BatchNormalization()
    x = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
    layer(x)
    layer(x, training=False)
    layer.trainable = False
    outputs = layer(x, training=True)
    np.testing.assert_allclose(outputs, x / np.sqrt(1.001), rtol=1e-6)
    assert layer.moving_mean.numpy().tolist() == [0, 0]
    assert layer.moving_variance.numpy().tolist() == [1, 1]


def test_momentum_of_one_never_moves():
    layer = BatchNormalization(momentum=1)
    layer(np.random.default_rng(0).normal(size=(8, 2)), training=True)
    assert layer.moving_mean.numpy().tolist() == [0, 0]
    assert layer.moving_variance.numpy().tolist() == [1, 1]


def test_regularizers_and_constraints_are_used():
    layer = BatchNormalization(gamma_regularizer="l2", beta_constraint="non_neg")
    layer.build((None, 3))
    assert len(layer.losses) == 1
    assert layer.beta.constraint is not None


def test_random_initializers_differ_between_renorm_weights_only_by_the_root():
    seeded = keras.initializers.RandomUniform(1.0, 2.0, seed=3)
    layer = BatchNormalization(renorm=True, moving_variance_initializer=seeded)
    layer.build((None, 4))
    np.testing.assert_allclose(layer.moving_stddev, np.sqrt(layer.moving_variance), rtol=1e-6)
    np.testing.assert_array_equal(layer.moving_stddev, layer.renorm_stddev)


def test_a_training_step_can_be_saved_with_its_gradient(tmp_path):
    module = tf.Module()
    module.layer = BatchNormalization(momentum=0.0)
    module.layer.build((None, 2))

    @tf.function(input_signature=[tf.TensorSpec([None, 2])])
    def step(x):
        return module.layer(x, training=True)

    module.step = step
    tf.saved_model.save(module, str(tmp_path))
    x = tf.constant(np.random.default_rng(0).normal(size=(6, 2)).astype("float32"))
    gradients, loaded = [], tf.saved_model.load(str(tmp_path))
    for function in (step, loaded.step):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(function(x) ** 3)
        gradients.append(tape.gradient(loss, x))
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)


def test_float16_moving_statistics_survive_large_inputs():
    layer = BatchNormalization(dtype="mixed_float16", momentum=0.0)
    x = ops.cast(np.array([[-600.0], [600.0]]), "float16")
    layer(x, training=True)
    assert layer.moving_variance.numpy().tolist() == [360000.0]
    outputs = layer(x)
    assert outputs.dtype == tf.float16
    np.testing.assert_allclose(outputs, [[-1], [1]], atol=1e-3)
