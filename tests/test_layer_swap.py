"""In someone else's model our layer changes no number beyond rounding, whatever Keras' arguments.

The exceptions, each with a test of its own elsewhere: batches that are empty, fully masked or not
finite (Keras' moving statistics turn into NaN; tests/test_layer_guards.py), `synchronized` under a
strategy (Keras is off by 77; tests/test_layer_synchronized.py), and masks that Keras gets wrong:
with one channel it fails, and along any axis but the last it fails or reads them otherwise
(tests/test_layer_masks.py).
"""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import ops
from marks import KERAS_HAS_RENORM

from bnzoo.layers import BatchNormalization

# Largest difference after two steps, of numbers of order 1: roundings of float64, of float32 sums
# in another order, and of float16 and bfloat16 activations (5e-4 and 4e-3 each).
TOLERANCE = {"float64": 1e-9, "float32": 2e-4, "mixed_float16": 1e-2, "mixed_bfloat16": 8e-2}
# The last one takes the fused kernel by itself.
SHAPES = [(6, 3), (7, 1), (4, 5, 3), (3, 4, 2, 4), (2, 3, 2, 2, 3), (4, 1, 5), (32, 16, 16, 16)]
ARGUMENTS = {
    "momentum": st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    "epsilon": st.sampled_from([1e-3, 1e-2, 1.0]),
    "center": st.booleans(),
    "scale": st.booleans(),
    "beta_initializer": st.sampled_from(["zeros", "ones"]),
    "gamma_initializer": st.sampled_from(["ones", "zeros"]),
    "moving_mean_initializer": st.sampled_from(["zeros", "ones"]),
    "moving_variance_initializer": st.sampled_from(["ones", keras.initializers.Constant(2.0)]),
    "beta_regularizer": st.sampled_from([None, "l2"]),
    "gamma_regularizer": st.sampled_from([None, "l1"]),
    "beta_constraint": st.sampled_from([None, "non_neg"]),
    "gamma_constraint": st.sampled_from([None, "unit_norm"]),
    "synchronized": st.booleans(),
    "trainable": st.booleans(),
}
RENORM = {
    "renorm": st.booleans(),
    "renorm_clipping": st.sampled_from([None, {"rmax": 1.5, "rmin": 0.5, "dmax": 1.0}]),
    "renorm_momentum": st.sampled_from([0.0, 0.9]),
}
ARGUMENTS |= RENORM if KERAS_HAS_RENORM else {}


def test_every_argument_of_keras_is_drawn():
    config = keras.layers.BatchNormalization().get_config()
    assert set(config) - set(ARGUMENTS) == {"axis", "name", "dtype"}


class Network(keras.Model):
    """Someone's model: the layer between two dense ones."""

    def __init__(self, cls, **arguments):
        super().__init__(dtype=arguments["dtype"])
        self.before = keras.layers.Dense(arguments.pop("width"), dtype=arguments["dtype"])
        self.norm = cls(**arguments)
        self.after = keras.layers.Dense(2, dtype=arguments["dtype"])

    def call(self, inputs, training=None):
        x, mask = inputs if isinstance(inputs, tuple) else (inputs, None)
        x = self.norm(self.before(x), training=training, mask=mask)
        return self.after(ops.reshape(x, (ops.shape(x)[0], -1)))


def numbers(cls, x, mask, jit_compile, **arguments):
    """Train for two steps; return losses, predictions and weights."""
    keras.utils.set_random_seed(1)
    model = Network(cls, width=x.shape[-1], **arguments)
    run = {"jit_compile": True} if jit_compile else {"run_eagerly": True}
    model.compile(keras.optimizers.SGD(0.05), "mse", **run)
    inputs = x if mask is None else (x, mask)
    target = np.random.default_rng(3).normal(size=(len(x), 2))
    losses = [model.train_on_batch(inputs, target) for _ in range(2)]
    predictions = ops.cast(model(inputs), "float64")
    return [losses, predictions, *model.get_weights()]


def assert_swappable(shape, axis, policy, arguments, mask, jit_compile=False):
    x = np.random.default_rng(2).normal(0.5, 2.0, shape).astype("float32")
    options = {"axis": axis, "dtype": policy, **arguments}
    ours, theirs = (
        numbers(cls, x, mask, jit_compile, **options)
        for cls in (BatchNormalization, keras.layers.BatchNormalization)
    )
    # Keras divides masked sums by n + 1e-7.
    tolerance = TOLERANCE[policy] + (0 if mask is None else 1e-5)
    for one, other in zip(ours, theirs, strict=True):
        one, other = np.asarray(one, "float64"), np.asarray(other, "float64")
        scale = max(1, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


drawn = given(
    shape=st.sampled_from(SHAPES),
    policy=st.sampled_from(sorted(TOLERANCE)),
    arguments=st.fixed_dictionaries(ARGUMENTS),
    data=st.data(),
)
unhurried = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(unhurried, max_examples=15)
@drawn
def test_swapping_the_layer_changes_no_number(shape, policy, arguments, data):
    swap(shape, policy, arguments, data)


@pytest.mark.slow
@settings(unhurried, max_examples=300)
@drawn
def test_swapping_the_layer_changes_no_number_however_long_one_looks(
    shape, policy, arguments, data
):
    swap(shape, policy, arguments, data)


def swap(shape, policy, arguments, data):
    axis = data.draw(st.integers(1 - len(shape), -1), "axis")
    if policy == "float64":
        # Keras adds a float64 penalty to a float32 loss, and fails.
        arguments = arguments | {"beta_regularizer": None, "gamma_regularizer": None}
    mask = None
    if axis == -1 and shape[-1] > 1:
        mask = data.draw(st.none() | st.integers(0, 2**30), "mask seed")
    if mask is not None:
        mask = np.random.default_rng(mask).uniform(size=shape[:-1]) < 0.7
        # A variance of one or two samples is mostly rounding.
        mask.flat[:4] = True
    assert_swappable(shape, axis, policy, arguments, mask)


def test_swapping_the_layer_in_a_compiled_step_changes_no_number():
    arguments = {"synchronized": False, "momentum": 0.9}
    assert_swappable((6, 4, 5, 8), -1, "float32", arguments, None, jit_compile=True)
