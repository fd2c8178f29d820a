"""Random models go through all that surgery does, without an error and with the same answers."""

import keras
import numpy as np
import population_reference as reference
import pytest
import random_models
from hypothesis import HealthCheck, Phase, given, settings
from normalized_models import norms
from population_reference import cut, is_frozen, statistics

import bnzoo
from bnzoo.errors import InputError
from bnzoo.saving import dtype_policy

# In standard deviations: float32's rounding through a few layers; of half precision a mean that
# differs in its last digit takes some values to the next number.
STATISTICS = {"float32": 1e-3, "mixed_float16": 2e-2, "mixed_bfloat16": 5e-2}
# Relative to the largest answer, beside four times the model's own distance from float64: once for
# itself, and what another order of rounding makes of it by chance.
ANSWERS = {"float32": 1e-4, "mixed_float16": 1e-2, "mixed_bfloat16": 6e-2}


def answers(model, x):
    found = keras.tree.flatten(model(x, training=False))
    return np.concatenate([np.asarray(each, "float64").ravel() for each in found])


def made_again(spec, model, policy="float64"):
    with dtype_policy(policy):
        return reference.same_state(random_models.build(spec, unknown_time=False), model)


def check_population(model, spec, batches):
    """Compare statistics with float64's; of half precision with those of its own values."""
    again = made_again(spec, model, "float64" if spec.policy == "float32" else spec.policy)
    expected = reference.populations(again, [x for (x,) in batches])
    bnzoo.recalibrate(model, batches)
    for layer in norms(model):
        mean, variance = expected[layer.name]
        if is_frozen(layer):
            mean, variance = statistics(again)[layer.name]
        elif getattr(layer, "unbiased_moving_variance", False):
            continue  # tests/test_surgery_recalibrate.py has it
        spread = variance + layer.epsilon
        far = np.abs(layer.moving_mean - mean) / np.sqrt(spread)
        wide = np.abs(layer.moving_variance - variance) / spread
        assert max(far.max(), wide.max()) < STATISTICS[spec.policy], (layer.name, far, wide)


class Answers:
    """What a model answers, and how far from it another one may be."""

    def __init__(self, model, spec, x):
        self.x, self.expected = x, answers(model, x)
        noise = np.abs(self.expected - answers(made_again(spec, model), x)).max()
        self.bound = 4 * noise + ANSWERS[spec.policy] * np.abs(self.expected).max()

    def check(self, model):
        far = np.abs(answers(model, self.x) - self.expected)
        assert far.max() <= self.bound, (far, self.bound)


def check(spec):
    """Take one random model through all of it."""
    with dtype_policy(spec.policy):
        model, x = random_models.build(spec), random_models.data(spec)
    # A graph takes longer to make, and may round half precision otherwise.
    model.compile("sgd", "mse", run_eagerly=len(spec.sizes) > 1 or spec.policy != "float32")
    batches, layers = [(each,) for each in cut(x, spec.sizes)], norms(model)
    bnzoo.diagnose(model, batches).to_json()
    if not layers:
        with pytest.raises(InputError, match="found none"):
            bnzoo.recalibrate(model, batches)
        return
    if all(is_frozen(layer) for layer in layers):
        with pytest.raises(InputError, match="unfreeze_batch_norm"):
            bnzoo.recalibrate(model, batches)
    else:
        check_population(model, spec, batches)
    same = Answers(model, spec, x)
    if spec.subclassed:
        with pytest.raises(InputError, match="not connected as a graph"):
            bnzoo.fold_batch_norm(model)
    else:
        same.check(bnzoo.fold_batch_norm(model))
    for to, options in (("keras", {"force": True}), ("bnzoo", {})):
        bnzoo.replace_batch_norm(model, to=to, **options)
        assert {type(layer) for layer in norms(model)} == {random_models.CLASSES[to]}
        same.check(model)


OPTIONS = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=12, **OPTIONS)
@given(random_models.specs())
def test_a_few_random_models(spec):
    check(spec)


@pytest.mark.slow
@settings(max_examples=1000, phases=[Phase.generate], **OPTIONS)  # shrinking takes hours
@given(random_models.specs())
def test_a_thousand_random_models(spec):
    check(spec)
