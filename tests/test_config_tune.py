"""The `tune` section: what can be searched, what is refused, and what a trial's config is."""

import itertools
import time

import pytest

from bnzoo import config
from bnzoo.config import space as config_space
from bnzoo.config.space import search_space
from bnzoo.errors import InputError

RATE, PLACEMENT = "train.optimizer.learning_rate", "model.placement"
TREE = {
    "seed": 3,
    "data": {"name": "digits", "validation": 0.2},
    "model": {"name": "dense"},
    "train": {"epochs": 9},
}
TUNE = {
    "algorithm": "grid",
    "objective": {"name": "val_accuracy", "direction": "max"},
    "space": {
        RATE: {"min": 1e-4, "max": 1.0, "steps": 7, "scale": "log"},
        PLACEMENT: ["none", "before", "after"],
    },
}


def make_config(tree=TREE, **tune):
    return config.validate({**tree, "tune": {**TUNE, **tune}}, source="c.yaml")


def problems(tree=TREE, **tune):
    with pytest.raises(InputError) as caught:
        make_config(tree, **tune)
    return str(caught.value).splitlines()


def values_of(checked):
    return {one.path: one.values for one in config.space_of(checked)}


def test_the_contracts_space_is_seven_rates_by_three_placements():
    checked = make_config()
    rates = (0.0001, 0.0004642, 0.002154, 0.01, 0.04642, 0.2154, 1.0)
    assert values_of(checked) == {RATE: rates, PLACEMENT: ("none", "before", "after")}
    found = list(config.combinations(config.space_of(checked)))
    expected = itertools.product(rates, ("none", "before", "after"))
    assert [tuple(values.values()) for values in found] == list(expected)


def test_linear_ranges_have_equal_differences():
    checked = make_config(space={"model.batch_norm.momentum": {"min": 0.5, "max": 0.9, "steps": 5}})
    assert values_of(checked) == {"model.batch_norm.momentum": (0.5, 0.6, 0.7, 0.8, 0.9)}


def test_integer_ranges_are_whole_where_the_key_is_and_only_there():
    checked = make_config(
        space={
            "data.batch_size": {"min": 16, "max": 100, "steps": 4, "scale": "log"},
            "model.batch_norm.momentum": {"min": 0, "max": 1, "steps": 3},
            "train.epochs": {"min": 1, "max": 3, "steps": 9},
        }
    )
    assert values_of(checked) == {
        "data.batch_size": (16, 29, 54, 100),
        "model.batch_norm.momentum": (0, 0.5, 1),
        "train.epochs": (1, 2, 3),
    }


def test_a_range_without_steps_is_searched_finely_by_the_other_algorithms():
    span = {"min": 1e-4, "max": 1.0, "scale": "log"}
    checked = make_config(algorithm="random", max_trials=5, space={RATE: span})
    (rates,) = values_of(checked).values()
    assert len(rates) == 1001
    assert (rates[0], rates[-1]) == (1e-4, 1.0)
    ratios = {round(later / sooner, 2) for sooner, later in itertools.pairwise(rates)}
    assert ratios == {1.01}


def test_any_key_can_be_searched_with_values_of_any_kind():
    space = {
        "model.units": [[8], [16, 8]],
        "train.optimizer": ["sgd", {"name": "adam", "beta_1": 0.8}],
        "train.optimizer.global_clipnorm": [None, 1.0],
        "model.batch_norm.renorm": [False, True],
    }
    checked = make_config(space=space)
    last = list(config.combinations(config.space_of(checked)))[-1]
    run = config.trial_config(checked, last, seed=4)
    assert run.model.units == (16, 8)
    assert run.train.optimizer.beta_1 == 0.8
    assert run.train.optimizer.global_clipnorm == 1.0
    assert run.model.batch_norm.renorm is True
    assert run.seed == 4
    assert run.tune is None


OPTIMIZER = "train.optimizer"


@pytest.mark.parametrize("paths", [(RATE, OPTIMIZER), (OPTIMIZER, RATE)])
def test_a_key_inside_another_keeps_its_value_in_either_order(paths):
    values = {RATE: [0.02, 0.3], OPTIMIZER: ["sgd", {"name": "adam", "beta_1": 0.8}]}
    checked = make_config(space={path: values[path] for path in paths})
    found = list(config.combinations(config.space_of(checked)))
    optimizers = [config.trial_config(checked, one).train.optimizer for one in found]
    assert [one.learning_rate for one in optimizers] == [one[RATE] for one in found]
    assert {(one.name, one.learning_rate) for one in optimizers} == {
        ("sgd", 0.02), ("sgd", 0.3), ("adam", 0.02), ("adam", 0.3),
    }  # fmt: skip


def test_conditions_may_tell_apart_what_lies_inside_another_key():
    patience, stopping = "train.early_stopping.patience", "train.early_stopping"
    space = {patience: [2, 5], stopping: [None, {"monitor": "loss"}]}
    (line,) = problems(space=space)
    assert f"{stopping}: expected values that {patience}, which is searched too" in line
    assert "does not change, got None." in line
    conditions = {patience: {stopping: [{"monitor": "loss"}]}}
    checked = make_config(space=space, conditions=conditions)
    runs = [
        config.trial_config(checked, one) for one in config.combinations(config.space_of(checked))
    ]
    assert [one.train.early_stopping and one.train.early_stopping.patience for one in runs] == [
        None, 2, 5,
    ]  # fmt: skip


def test_combinations_that_are_one_run_are_refused_and_two_are_named():
    (line,) = problems(space={OPTIMIZER: ["sgd", "adam", {"name": "sgd"}], RATE: [0.1, 0.2]})
    assert "tune.space: expected another config for each combination, got the same for" in line
    first, second = (
        f"({OPTIMIZER}: sgd, {RATE}: 0.1)",
        f"({OPTIMIZER}: {{'name': 'sgd'}}, {RATE}: 0.1)",
    )
    assert f"{first} and {second}." in line


def test_conditions_search_a_key_only_where_it_matters():
    momentum = "model.batch_norm.momentum"
    checked = make_config(
        space={momentum: [0.9, 0.99], PLACEMENT: ["none", "before"]},
        conditions={momentum: {PLACEMENT: ["before"]}},
    )
    assert list(config.combinations(config.space_of(checked))) == [
        {PLACEMENT: "none"},
        {PLACEMENT: "before", momentum: 0.9},
        {PLACEMENT: "before", momentum: 0.99},
    ]
    assert config.expected_trials(checked) == 3


def test_seeds_follow_the_configs_own_unless_they_are_listed():
    assert make_config().tune.seeds_from(3) == (3,)
    assert make_config(executions_per_trial=3).tune.seeds_from(3) == (3, 4, 5)
    listed = make_config(seeds=[7, 1])
    assert listed.tune.seeds_from(3) == (7, 1)
    assert listed.tune.executions_per_trial == 2


def test_a_resolved_sweep_is_read_back_as_it_was(tmp_path):
    checked = make_config(seeds=[1, 2], conditions={PLACEMENT: {}})
    (tmp_path / "config.yaml").write_text(config.dump_config(checked))
    assert config.load_resolved(tmp_path / "config.yaml") == checked
    assert config.load_config(tmp_path / "config.yaml") == checked


@pytest.mark.parametrize("epochs", [1, 2, 3, 9, 10, 27])
def test_hyperbands_trials_are_counted_as_keras_tuner_does(epochs):
    import keras_tuner

    oracle = keras_tuner.oracles.HyperbandOracle(max_epochs=epochs)
    sizes = [
        [oracle._get_size(bracket, number) for number in range(oracle._get_num_rounds(bracket))]
        for bracket in range(oracle._get_num_brackets())
    ]
    tree = {**TREE, "train": {"epochs": epochs}}
    spans = {RATE: {"min": 1e-4, "max": 1.0, "scale": "log"}}
    checked = make_config(tree, algorithm="hyperband", space=spans)
    assert config.expected_trials(checked) == sum(map(sum, sizes))
    assert config_space.hyperband_sizes(epochs) == sizes


REFUSED = {
    "an empty space": ({"space": {}}, "tune.space: expected a length of at least 1, got {}"),
    "no values": (
        {"space": {RATE: []}},
        f"tune.space.{RATE}: expected a list of at least one value, or a range",
    ),
    "a value twice": ({"space": {RATE: [0.1, 0.1]}}, "expected each value once, got 0.1 twice"),
    "neither list nor range": (
        {"space": {RATE: 0.1}},
        "expected a list of at least one value, or a range such as",
    ),
    "ends the wrong way": (
        {"space": {RATE: {"min": 1.0, "max": 0.1}}},
        f"tune.space.{RATE}: expected max above min, got min: 1 and max: 0.1",
    ),
    "a log scale from zero": (
        {"space": {RATE: {"min": 0, "max": 0.1, "steps": 3, "scale": "log"}}},
        "expected a min above 0 with scale: log, got min: 0",
    ),
    "one step": (
        {"space": {RATE: {"min": 0.1, "max": 1.0, "steps": 1}}},
        f"tune.space.{RATE}.steps: expected a whole number of at least 2, got 1.",
    ),
    "more steps than values differ": (
        {"space": {RATE: {"min": 0.1, "max": 1.0, "steps": 1_000_000_000}}},
        f"tune.space.{RATE}.steps: expected a whole number of at most 10000, got 1000000000.",
    ),
    "an unknown key of a range": (
        {"space": {RATE: {"min": 0.1, "max": 1.0, "step": 3}}},
        "unknown key 'step'. Did you mean 'steps'?",
    ),
    "a grid over a range without steps": (
        {"space": {RATE: {"min": 0.1, "max": 1.0}}},
        f"tune.space.{RATE}: expected steps, as a grid tries every value",
    ),
    "an unknown path": (
        {"space": {"train.optimizer.learning_rte": [0.1]}},
        "tune.space: train.optimizer.learning_rte: unknown key 'learning_rte'. "
        "Did you mean 'learning_rate'?",
    ),
    "an unknown section": (
        {"space": {"trian.epochs": [1]}},
        "unknown key 'trian'. Did you mean 'train'?",
    ),
    "a value that its key does not take": (
        {"space": {PLACEMENT: ["none", "befor"]}},
        "got 'befor'. Did you mean 'before'?",
    ),
    "the seed as a key": (
        {"space": {"seed": [1, 2]}},
        "Seeds are listed in compare.seeds and tune.seeds",
    ),
    "a key that contradicts another": (
        {"space": {"train.optimizer.name": ["sgd", "adam"], "train.optimizer.nesterov": [True]}},
        "tune.space: train.optimizer.nesterov: unknown key 'nesterov'",
    ),
    "a value that a key inside its own would change": (
        {
            "space": {
                RATE: [0.1],
                "train.optimizer": ["adam", {"name": "sgd", "learning_rate": 0.2}],
            }
        },
        f"tune.space: train.optimizer: expected values that {RATE}, which is searched too, does "
        "not change, got {'name': 'sgd', 'learning_rate': 0.2}. Leave train.optimizer.",
    ),
    "a grid larger than max_trials": (
        {"max_trials": 20},
        "tune.max_trials: expected at least the 21 combinations of the grid, got 20",
    ),
    "zero trials": ({"max_trials": 0}, "tune.max_trials: expected a whole number above 0, got 0"),
    "random search without an end": (
        {"algorithm": "random"},
        "tune.max_trials: expected how many trials random makes",
    ),
    "hyperband with max_trials": (
        {"algorithm": "hyperband", "max_trials": 5},
        "tune.max_trials: expected none with hyperband, got 5",
    ),
    "a space too small for hyperband": (
        {"algorithm": "hyperband", "space": {PLACEMENT: ["none", "before"]}},
        "tune.space: expected at least 17 combinations, which hyperband starts with",
    ),
    "epochs that hyperband would set itself": (
        {"algorithm": "hyperband", "space": {RATE: {"min": 0.1, "max": 1}, "train.epochs": [3, 9]}},
        "tune.space.train.epochs: expected no train.epochs with hyperband",
    ),
    "epochs inside a section that hyperband would set itself": (
        {"algorithm": "hyperband", "space": {"train": [{"epochs": 3}, {"epochs": 9}]}},
        "tune.space.train: expected no train.epochs with hyperband",
    ),
    "an unknown algorithm": ({"algorithm": "gird"}, "Did you mean 'grid'?"),
    "a metric that no run has": (
        {"objective": {"name": "val_acc", "direction": "max"}},
        "tune.objective.name: expected 'val_accuracy', 'val_loss', 'accuracy', 'loss' or "
        "'seconds', got 'val_acc'. Did you mean 'val_accuracy' or 'val_loss'?",
    ),
    "no direction": ({"objective": {"name": "loss"}}, "tune.objective.direction: missing"),
    "seeds and another number of executions": (
        {"seeds": [1, 2, 3], "executions_per_trial": 2},
        "tune.seeds: expected 2 seeds, as executions_per_trial is 2, got [1, 2, 3]",
    ),
    "a seed twice": ({"seeds": [1, 1]}, "expected a list of different whole numbers"),
    "a condition on an unknown key": (
        {"conditions": {RATE: {"model.placment": ["none"]}}},
        "got 'model.placment'. Did you mean 'model.placement'?",
    ),
    "a condition that is never met": (
        {"conditions": {RATE: {PLACEMENT: ["befor"]}}},
        "expected values that tune.space lists for model.placement, got 'befor'. "
        "Did you mean 'before'?",
    ),
    "a condition on a range": (
        {"conditions": {PLACEMENT: {RATE: [0.1]}}},
        f"expected values that tune.space lists for {RATE}, got 0.1. It would never be met.",
    ),
    "conditions in a circle": (
        {
            "space": {PLACEMENT: ["none"], "model.units": [[8]]},
            "conditions": {PLACEMENT: {"model.units": [[8]]}, "model.units": {PLACEMENT: ["none"]}},
        },
        "tune.conditions: expected no circle, got model.placement and model.units",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_space_is_refused_before_anything_runs(case):
    changes, message = REFUSED[case]
    lines = problems(**changes)
    assert any(message in line for line in lines), lines
    assert all(line.startswith("c.yaml: ") for line in lines)


def test_a_metric_that_the_run_does_not_measure_is_refused():
    tree = {**TREE, "data": {"name": "digits", "validation": "none"}}
    (line,) = problems(tree)
    assert "tune.objective.name: expected a metric that every run has" in line
    assert "got 'val_accuracy'" in line


@pytest.mark.parametrize("values", [["none", 0.2], ["none"], [None, 0.2]])
def test_a_metric_that_some_combination_does_not_measure_is_refused(values):
    (line,) = problems(space={"data.validation": values, PLACEMENT: ["none", "before"]})
    assert "tune.objective.name: expected a metric that every run has" in line
    assert "got 'val_accuracy', which is not measured where data.validation is none" in line
    objective = {"name": "accuracy", "direction": "max"}
    assert make_config(space={"data.validation": values}, objective=objective)


def test_problems_of_the_config_and_of_the_space_are_reported_together_and_once():
    tree = {**TREE, "model": {"name": "dense", "units": [-1]}}
    lines = problems(tree, space={"train.epoch": [1, 2, 3]})
    assert len(lines) == 2
    assert "model.units" in lines[0]
    assert "Did you mean 'epochs'?" in lines[1]


def test_a_large_space_is_checked_value_by_value():
    space = {f"train.optimizer.{name}": {"min": 0.1, "max": 0.9, "steps": 30}
             for name in ("learning_rate", "momentum")}  # fmt: skip
    space["data.batch_size"] = [8, "9"]
    lines = problems(algorithm="random", max_trials=3, space=space)
    assert len(lines) == 1
    assert "data.batch_size" in lines[0]


def test_a_large_space_is_checked_by_whole_combinations():
    """A key that needs another one's value is not tried without it."""
    nesterov, name = "train.optimizer.nesterov", "train.optimizer.name"
    tree = {**TREE, "train": {"optimizer": "adam"}}
    space = {
        RATE: {"min": 0.1, "max": 0.9, "steps": 300},
        nesterov: [True, False],
        name: ["sgd"],
        "train.precision": ["float32", "mixed_float16"],
    }
    assert config.expected_trials(make_config(tree, space=space)) == 1200
    space[name] = ["sgd", "rmsprop"]
    assert any("unknown key 'nesterov'" in line for line in problems(tree, space=space))
    conditions = {nesterov: {name: ["sgd"]}}
    checked = make_config(tree, space=space, conditions=conditions)
    assert config.expected_trials(checked) == 300 * 2 * (2 + 1)


HUNDRED = {"min": 0.1, "max": 0.9, "steps": 100}
HUGE = {
    RATE: HUNDRED,
    "train.optimizer.momentum": HUNDRED,
    "model.batch_norm.momentum": HUNDRED,
    "model.batch_norm.epsilon": HUNDRED,
}


def test_a_huge_grid_is_refused_at_once_with_its_size():
    begun = time.perf_counter()
    (line,) = problems(space=HUGE)
    assert "expected at least the 100,000,000 combinations of the grid, got 100,000." in line
    (line,) = problems(space=HUGE, max_trials=200_000)
    assert "expected at least the 100,000,000 combinations of the grid, got 200,000." in line
    assert config.expected_trials(make_config(space=HUGE, max_trials=10**9)) == 10**8
    assert time.perf_counter() - begun < 5  # it takes 0.1 s; counting one by one took minutes


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"b": {"a": (1, 2)}},
        {"b": {"a": (1, 2)}, "c": {"a": (2, 3), "b": (6,)}},
        {"c": {"b": ([7],)}, "d": {"c": (8,), "a": (3,)}},
    ],
)
def test_combinations_are_counted_without_being_made(conditions):
    values = {"a": (1, 2, 3, 4), "b": (5, 6, [7]), "c": (8, 9), "d": tuple(range(10))}
    space = [config.Dimension(key, values[key], conditions.get(key, {})) for key in values]
    assert config_space.count_combinations(space) == len(list(config.combinations(space)))


def test_a_study_and_a_sweep_can_share_a_config():
    compare = {"variants": {"none": {PLACEMENT: "none"}}}
    checked = config.validate({**TREE, "tune": TUNE, "compare": compare}, source="c.yaml")
    assert checked.study().tune is None
    assert checked.sweep().compare is None
    run = next(iter(config.variant_configs(checked.study()).values()))
    assert run.tune is None


def test_names_of_folders_can_be_read_and_never_meet():
    assert config.values_name({RATE: 0.01, PLACEMENT: "before"}) == (
        "learning_rate-0.01_placement-before"
    )
    awkward = [{"model.units": [8, 8]}, {"model.units": ["8, 8"]}, {"model.units": "8/8"}]
    awkward += [{"data.name": "npz:" + "x" * 200}, {"data.name": "npz:" + "x" * 201}]
    names = [config.values_name(values) for values in awkward]
    assert len(set(names)) == len(names)
    assert all(len(name) < 128 and "/" not in name for name in names)


def test_whole_numbers_are_known_without_the_rest_of_the_config():
    tune = make_config(space={"data.batch_size": {"min": 1, "max": 4, "steps": 4}}).tune
    (one,) = search_space({"data": {"name": "digits"}, "model": {"name": "dense"}}, tune)
    assert one.values == (1, 2, 3, 4)
