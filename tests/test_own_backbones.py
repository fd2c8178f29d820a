"""Networks of Keras by one line of a config: our batch normalization, none, and logits."""

import keras
import pytest

from bnzoo.config.own import OwnModel
from bnzoo.errors import InputError
from bnzoo.layers import BatchNormalization
from bnzoo.models import build_model


def built(name="keras.applications:MobileNetV2", shape=(32, 32, 3), params=None, **settings):
    params = {"alpha": 0.35} if params is None else params
    return build_model(OwnModel(name=name, params=params, **settings).resolved(shape, 5))


def normalizations(model):
    return [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]


def test_its_batch_normalization_becomes_ours_and_its_end_logits():
    model = built(batch_norm={"virtual_batch_size": 8})
    found = normalizations(model)
    assert len(found) == 52
    assert all(isinstance(one, BatchNormalization) for one in found)
    # What the config does not change is the network's own.
    assert {(one.momentum, one.epsilon, one.virtual_batch_size) for one in found} == {
        (0.999, 0.001, 8)
    }
    assert model.output_shape == (None, 5)
    assert model.layers[-1].activation is keras.activations.linear


def test_placement_none_takes_it_out():
    assert normalizations(built(placement="none")) == []


def test_params_may_leave_it_as_it_is_and_leave_the_top_out():
    model = built(params={"alpha": 0.35, "replace_batch_norm": False, "include_top": False})
    assert not any(isinstance(one, BatchNormalization) for one in normalizations(model))
    assert model.output_shape == (None, 5)
    assert model.layers[-1].name == "logits"


def test_a_misspelled_argument_of_it_is_refused():
    with pytest.raises(InputError, match=r"model\.params\.alfa: .* Did you mean 'alpha'\?"):
        built(params={"alfa": 0.35})


def test_what_its_function_raises_is_one_line():
    with pytest.raises(InputError, match="MobileNetV2: ValueError: ") as error:
        built(params={"alpha": 0.35, "weights": "no_such_weights"})
    assert "\n" not in str(error.value)


def test_after_the_activation_is_refused_by_a_check():
    model = OwnModel(name="keras.applications:MobileNetV2", placement="after")
    (problem,) = model.problems()
    assert problem.startswith("model.placement: expected none or before for keras.applications:Mob")


def test_a_backbone_of_keras_hub_gets_a_classifier():
    pytest.importorskip("keras_hub")
    model = built("keras_hub.models:DenseNetBackbone", params={"stackwise_num_repeats": [1, 1]})
    assert model.output_shape == (None, 5)
    assert all(isinstance(one, BatchNormalization) for one in normalizations(model))
