"""The percentiles of the last hidden activation's input, against NumPy."""

import keras
import numpy as np
import pytest
from watching import prepared, watching_config

from bnzoo.errors import InputError
from bnzoo.studies.watching import study_of

SHIFT = {"name": "activation_shift", "every": 2, "examples": 300, "from_step": 4}


def test_percentiles_are_those_of_the_units_inputs_over_training_batches():
    study, model, splits, _ = prepared(SHIFT, ("model.placement", "before"))
    before = [weight.copy() for weight in model.get_weights()]
    columns, measure = study.begin(model, splits)
    (row,) = measure(0)
    splits.begin_epoch(0)
    batches = [x.reshape(len(x), -1) for x, _ in splits.train.take(2).as_numpy_iterator()]
    weights = {weight.path: weight.numpy().astype("float64") for weight in model.weights}
    found = np.concatenate([second_bn(x.astype("float64"), weights) for x in batches])
    expected = np.percentile(found, (15, 50, 85), axis=0)
    assert list(row) == list(columns) == [f"p{p}_{u}" for p in (15, 50, 85) for u in range(6)]
    np.testing.assert_allclose(list(row.values()), expected.ravel(), rtol=1e-4, atol=1e-5)
    assert all(map(np.array_equal, before, model.get_weights()))


def second_bn(x, weights):
    """Return what the second sigmoid is given, from images of shape (batch, pixels)."""

    def normalized(y, name):
        y = (y - y.mean(axis=0)) / np.sqrt(y.var(axis=0) + 1e-3)
        return y * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    hidden = 1 / (1 + np.exp(-normalized(x @ weights["dense_1/kernel"], "bn_1")))
    return normalized(hidden @ weights["dense_2/kernel"], "bn_2")


def test_the_shift_is_the_way_of_the_median_over_the_spread():
    study, *_ = prepared(SHIFT)
    medians = {0: (9, 9), 4: (0, 1), 6: (1, 1), 8: (-1, 1)}  # the first is before from_step
    rows = [
        {"epoch": 1, "step": step, "p15_0": one - 1, "p15_1": two, "p50_0": one, "p50_1": two,
         "p85_0": one + 3, "p85_1": two}
        for step, (one, two) in medians.items()
    ]  # fmt: skip
    assert study.count(rows) == {"median_shift": (1 + 2) / 4}  # the second unit is dead
    assert study.count(rows[:2]) == {}


def test_channels_of_a_convolution_are_units():
    study, model, splits, train = prepared(
        SHIFT, ("model", {"name": "three_conv", "filters": [2, 2, 3]})
    )
    study.check(model, splits, train)
    columns, measure = study.begin(model, splits)
    assert len(columns) == 3 * 3
    assert np.isfinite([*measure(0)[0].values()]).all()


def test_too_short_a_run_is_refused():
    _, *model = prepared(SHIFT, ("train.epochs", 1))
    with pytest.raises(InputError, match="from step 4 on, every 4 steps, got a run of 6 steps"):
        study_of(watching_config({**SHIFT, "every": 4})).check(*model)


def test_a_model_without_a_hidden_activation_layer_is_refused():
    study, _, splits, train = prepared(SHIFT)
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Dense(3, activation="relu")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Activation("softmax")(hidden), name="own")
    with pytest.raises(InputError, match=r"no hidden activation in the model 'own'.*Flatten"):
        study.check(model, splits, train)


@pytest.mark.parametrize("is_shared", [False, True])
def test_the_last_call_counts_of_an_activation_that_is_called_again(is_shared):
    study, _, splits, train = prepared(SHIFT)
    relu, inputs = keras.layers.ReLU(), keras.Input((8, 8, 1))
    x = relu(keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    last = keras.layers.Dense(2)(x)
    x = (relu if is_shared else keras.layers.ReLU())(last)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    study.check(model, splits, train)
    (row,) = study.begin(model, splits).measure(0)
    assert len(row) == 3 * 2
    splits.begin_epoch(0)
    batches = splits.train.take(2).as_numpy_iterator()
    found = np.concatenate([keras.Model(inputs, last)(x) for x, _ in batches])
    expected = np.percentile(found, (15, 50, 85), axis=0)
    np.testing.assert_allclose(list(row.values()), expected.ravel(), rtol=1e-4, atol=1e-5)


def test_one_look_is_not_enough():
    settings = watching_config({**SHIFT, "every": 5, "from_step": 6})  # 6 + 5 < 12, and only at 10
    with pytest.raises(InputError, match="two looks from step 6 on, every 5 steps"):
        study_of(settings).check(*prepared(SHIFT)[1:])
