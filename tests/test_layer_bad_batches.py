"""The callback that counts batches without usable statistics."""

import contextlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnzoo import BadBatches
from bnzoo.layers import BatchNormalization

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")


def spoiled(*examples):
    x = X.copy()
    x[list(examples)] = np.nan
    return x


@contextlib.contextmanager
def warning_of(count):
    """Expect one warning that names the batches of the first epoch, and ignore other people's."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    messages = [str(warning.message) for warning in caught]
    ours = [message for message in messages if "batch normalization met" in message]
    assert len(ours) == 1
    assert f"NaN or infinity: {count}, added up over its layers" in ours[0]


def model_of(layers=2, **options):
    hidden = [BatchNormalization() for _ in range(layers)]
    model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(1)])
    # Of a rate of 0 the NaN of a loss stays out of the weights: the next batch is good again.
    model.compile(keras.optimizers.SGD(1e-3, clipvalue=1.0), "mse", **options)
    return model


def fit(model, x, epochs=1, **options):
    target = np.zeros((len(x), 1), "float32")
    return model.fit(x, target, batch_size=8, epochs=epochs, shuffle=False, verbose=0, **options)


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_bad_batches_are_counted_per_layer_and_epoch(options):
    model, bad = model_of(layers=1, **options), BadBatches()
    with warning_of(1):
        history = fit(model, spoiled(9), epochs=2, callbacks=[bad])
    # The weights are NaN from then on, but they stand behind the layer.
    assert history.history["bad_batches"] == [1, 1]
    assert bad.total == 2
    for weight in model.layers[0].non_trainable_variables:
        assert np.isfinite(weight.numpy()).all()


def test_the_nan_goes_on_through_the_layers():
    model, bad = model_of(layers=2), BadBatches()
    with warning_of(2):
        fit(model, spoiled(20), callbacks=[bad])
    assert bad.total == 2


def test_it_warns_once():
    model, bad = model_of(), BadBatches()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, spoiled(3), epochs=3, callbacks=[bad])
        fit(model, spoiled(3), callbacks=[bad])
    assert len([w for w in caught if "batch normalization met" in str(w.message)]) == 1
    assert bad.total >= 4


def test_good_batches_are_not_counted_and_raise_no_warning():
    model, bad = model_of(), BadBatches()
    history = fit(model, X, epochs=2, callbacks=[bad])
    assert history.history["bad_batches"] == [0, 0]
    assert bad.total == 0


def test_a_fully_masked_batch_is_counted():
    inputs = keras.Input((3, 4))
    outputs = BatchNormalization()(keras.layers.Masking()(inputs))
    model, bad = keras.Model(inputs, outputs), BadBatches()
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(16, 3, 4)).astype("float32")
    x[8:] = 0
    with warning_of(1):
        model.fit(x, x, batch_size=8, shuffle=False, verbose=0, callbacks=[bad])
    assert bad.total == 1


def test_validation_is_not_counted():
    model, bad = model_of(), BadBatches()
    data = spoiled(1), np.zeros((24, 1), "float32")
    history = fit(model, X, callbacks=[bad], validation_data=data)
    assert history.history["bad_batches"] == [0]


def test_a_second_fit_with_a_callback_of_its_own_counts_from_zero():
    model = model_of(layers=1)
    with warning_of(1):
        fit(model, spoiled(17), callbacks=[BadBatches()])
    again = BadBatches()
    with warning_of(1):
        fit(model, spoiled(17), callbacks=[again])
    assert again.total == 1


def test_a_second_fit_without_the_callback_still_works():
    model = model_of(layers=1)
    fit(model, X, callbacks=[BadBatches()])
    history = fit(model, X)
    assert "bad_batches" not in history.history


def test_layers_in_a_nested_model_are_watched():
    inner = keras.Sequential([keras.Input((4,)), BatchNormalization()])
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    bad = BadBatches()
    with warning_of(1):
        fit(model, spoiled(17), callbacks=[bad])
    assert bad.total == 1


def test_weights_and_saved_files_are_as_without_it(tmp_path):
    watched, plain = model_of(), model_of()
    fit(watched, X, callbacks=[BadBatches()])
    fit(plain, X)
    names = [[weight.name for weight in model.weights] for model in (watched, plain)]
    assert names[0] == names[1]
    assert len(watched.get_weights()) == len(plain.get_weights())
    assert watched.count_params() == plain.count_params()
    watched.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(watched.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(watched.predict(X, verbose=0), again.predict(X, verbose=0))
    fit(again, X)
    plain.set_weights(watched.get_weights())
    plain.export(tmp_path / "exported", verbose=False)
    watched.export(tmp_path / "watched", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "watched"))
    np.testing.assert_allclose(served.serve(X), watched(X), rtol=1e-6, atol=1e-6)
