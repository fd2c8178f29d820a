"""Configurations: what is accepted, what each problem says, and where the file's values end up."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from bnzoo import config
from bnzoo.config.reading import parse_yaml
from bnzoo.errors import InputError

GOOD = """
seed: 3
data: {name: digits, validation: 0.2}
model: {name: three_conv, filters: [4, 4, 4]}
train: {epochs: 2, optimizer: {name: adam, learning_rate: 3e-4}}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def load_text(write, text, *overrides):
    return config.load_config(write(text), overrides)


def problem(write, text, *overrides) -> str:
    with pytest.raises(InputError) as caught:
        load_text(write, text, *overrides)
    return str(caught.value)


def test_a_good_config_is_read_with_defaults_filled_in(write):
    loaded = load_text(write, GOOD)
    assert loaded.seed == 3
    assert loaded.data.batch_size == 32
    assert loaded.model.filters == (4, 4, 4)
    assert loaded.model.placement == "before"
    assert loaded.train.optimizer.learning_rate == 3e-4
    assert loaded.train.schedule.name == "constant"


@pytest.mark.parametrize("number", ["1e-3", "3e-4", "1E-3", "1.0e-3", "+2e-2", "5e+0", "1"])
def test_numbers_with_an_exponent_are_numbers(write, number):
    loaded = load_text(write, GOOD, f"train.optimizer.learning_rate={number}")
    assert loaded.train.optimizer.learning_rate == float(number)


@pytest.mark.parametrize("word", ["on", "off", "yes", "no"])
def test_yaml_1_1_booleans_are_words(write, word):
    message = problem(write, GOOD, f"train.deterministic={word}")
    assert f"train.deterministic: expected true or false, got '{word}'" in message


def test_an_off_placement_is_named_as_it_was_typed(write):
    assert "got 'off'" in problem(write, GOOD, "model.placement=off")


def test_resolved_config_reads_back_the_same(write):
    loaded = load_text(write, GOOD, "data.image_size=[8, 8]", "train.schedule=cosine")
    assert config.load_config(write(config.dump_config(loaded), "again.yaml")) == loaded


def test_a_config_is_frozen(write):
    loaded = load_text(write, GOOD)
    with pytest.raises(ValidationError, match="frozen"):
        loaded.train.epochs = 5


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epoch=3", "train.epoch: unknown key 'epoch'. Did you mean 'epochs'?"),
        ("modle.name=x", "modle: unknown key 'modle'. Did you mean 'model'?"),
        (
            "train.optimizer.beta_3=0.5",
            "train.optimizer.beta_3: unknown key 'beta_3'. Did you mean 'beta_2' or 'beta_1'?",
        ),
        ("model.filter=[1]", "model.filter: unknown key 'filter'. Did you mean 'filters'?"),
        (
            "model.batch_norm.momentun=0.9",
            "model.batch_norm.momentun: unknown key 'momentun'. Did you mean 'momentum' or "
            "'renorm_momentum'?",
        ),
        ("train.epochs=-3", "train.epochs: expected a whole number above 0, got -3."),
        ("train.epochs=0", "train.epochs: expected a whole number above 0, got 0."),
        ("train.epochs=2.5", "train.epochs: expected a whole number, got 2.5."),
        ("train.epochs=true", "train.epochs: expected a whole number, got True."),
        (
            "train.epochs='3'",
            "train.epochs: expected a whole number, got '3'. Write a number, such as 3",
        ),
        (
            "train.epochs=many",
            "train.epochs: expected a whole number, got 'many'. Write a number, such as 3",
        ),
        (
            "train.optimizer.learning_rate=fast",
            "train.optimizer.learning_rate: expected a number, got 'fast'. Write a number",
        ),
        ("train=5", "train: expected a mapping, got 5."),
        ("seed=-1", "seed: expected a whole number of at least 0, got -1."),
        ("seed=5e9", "seed: expected a whole number, got 5000000000.0."),
        ("seed=5000000000", "seed: expected a whole number below 4294967296, got 5000000000."),
        (
            "train.optimizer.learning_rate=0",
            "train.optimizer.learning_rate: expected a number above 0, got 0",
        ),
        (
            "train.optimizer.learning_rate=.inf",
            "train.optimizer.learning_rate: expected a finite number, got inf.",
        ),
        (
            "train.optimizer.name=adm",
            "train.optimizer.name: expected one of 'sgd', 'adam', 'adamw', 'rmsprop', got 'adm'. "
            "Did you mean 'adam' or 'adamw'?",
        ),
        (
            "train.optimizer=adm",
            "train.optimizer.name: expected one of 'sgd', 'adam', 'adamw', 'rmsprop', got 'adm'. "
            "Did you mean 'adam' or 'adamw'?",
        ),
        ("train.schedule=cosin", "got 'cosin'. Did you mean 'cosine'"),
        (
            "train.precision=float16",
            "train.precision: expected 'float32', 'mixed_float16' or 'mixed_bfloat16', "
            "got 'float16'. Did you mean 'float32' or 'mixed_float16'",
        ),
        (
            "train.jit_compile=always",
            "train.jit_compile: expected true or false or 'auto', got 'always'.",
        ),
        (
            "model.name=three_con",
            "model.name: expected one of 'conv1d', 'dense', 'f1', 'inception', 'lenet', "
            "'one_conv', 'resnet', 'sigmoid_mlp', 'three_conv', 'vgg', got 'three_con'. "
            "Did you mean 'three_conv'?",
        ),
        ("model.placement=befor", "Did you mean 'before'?"),
        (
            "model.filters=[32, -64]",
            "model.filters: expected a list of three positive integers, got [32, -64]. "
            "Each entry is the number of channels of one block.",
        ),
        ("data.name=digit", "Did you mean 'digits'?"),
        ("data.name=cifar", "Did you mean 'cifar10'"),
        ("data.batch_size=0", "data.batch_size: expected a whole number above 0, got 0."),
        ("data.validation=1.5", "data.validation: expected a fraction between 0 and 1"),
        ("train.schedule={name: step, epochs: []}", "epochs: expected a length of at least 1"),
        ("train.schedule={name: step, epochs: [3, 2]}", "expected epochs that rise, got [3, 2]"),
        (
            "train.follow_weights=[{layer: conv_1, index: [0, -1]}]",
            "train.follow_weights.0.index.1: expected a whole number of at least 0, got -1.",
        ),
    ],
)
def test_a_problem_names_path_received_expected_and_advice(write, override, expected):
    assert expected in problem(write, GOOD, override)


def test_a_bad_entry_of_a_list_is_one_problem(write):
    """Pydantic leaves it out of the list's length, which is no problem of its own."""
    lines = problem(write, GOOD, "train.schedule={name: step, epochs: [true]}").splitlines()
    assert len(lines) == 1
    assert "train.schedule.epochs.0: expected a whole number, got True." in lines[0]


def test_every_problem_of_a_file_is_reported_at_once(write):
    lines = problem(write, "data: {name: digit}\nmodel: {name: lenet, filters: 3}\n").splitlines()
    assert [line.split(": ")[1] for line in lines] == ["data.name", "model.filters"]


def test_a_study_folders_config_takes_its_variants_again(write, tmp_path):
    """Although all defaults are in it, which another optimizer's variant does not know."""
    changes = "{other: {train.optimizer.name: sgd, train.epochs: 3}}"
    loaded = load_text(write, STUDY, f"compare.variants={changes}")
    (tmp_path / "config.yaml").write_text(config.dump_config(loaded))
    again = config.load_config(tmp_path)
    assert again == loaded
    assert config.variant_configs(again) == config.variant_configs(loaded)


def test_missing_sections_are_named(write):
    message = problem(write, "seed: 1\n")
    assert "data: missing." in message
    assert "model: missing." in message


def test_a_model_without_a_name_is_named(write):
    assert "model: expected a mapping with a `name`, got {}" in problem(
        write, "data: {name: digits}\nmodel: {}\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- 1\n", "expected a mapping with the sections data, model and train, got list"),
        ("", "expected a mapping with the sections data, model and train, got an empty file"),
        ("? [a]\n: 2\n", "expected a word as key, or quotes around it, got ('a',)."),
        ("1: 2\n", "run.yaml: 1: expected a word as key, or quotes around it, got 1."),
        ("data: [", "not valid YAML"),
        (
            "seed: 1\nseed: 2\n",
            'found duplicate key "seed" with value "2" (original value: "1") (line 2)',
        ),
        ("\tseed: 1\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_config_is_one_clear_error(write, text, expected):
    assert expected in problem(write, text)


def test_a_folder_or_binary_file_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="expected a readable YAML file"):
        config.load_config(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="expected a readable YAML file"):
        config.load_config(binary)


@pytest.mark.parametrize("text", ["train.epochs", "=3", "train..epochs=3", "a=[", ".=1"])
def test_an_override_that_is_none_is_one_clear_error(write, text):
    assert problem(write, GOOD, text).startswith(f"--set {text}: ")


def test_an_override_through_a_value_is_refused(write):
    message = problem(write, GOOD, "train.epochs.first=3")
    assert "train.epochs is 2, not a mapping, so it has no key 'first'" in message


def test_an_override_reaches_into_a_short_form(write):
    text = GOOD.replace("epochs: 2", "epochs: 2, schedule: cosine")
    loaded = load_text(write, text, "train.schedule.warmup_epochs=1")
    assert loaded.train.schedule.warmup_epochs == 1


def test_another_optimizer_refuses_the_first_ones_keys(write):
    message = problem(write, GOOD, "train.optimizer={name: sgd, beta_1: 0.5, learning_rate: 0.1}")
    assert "train.optimizer.beta_1: unknown key 'beta_1'" in message


def test_an_override_reaches_into_a_default_optimizer(write):
    text = "data: {name: digits}\nmodel: {name: dense}\n"
    loaded = load_text(
        write, text, "train.optimizer.learning_rate=0.1", "train.schedule={name: cosine}"
    )
    assert (loaded.train.optimizer.name, loaded.train.optimizer.learning_rate) == ("sgd", 0.1)


def test_a_slip_in_the_models_name_hides_no_other_problem(write):
    sets = ("model.name=densee", "model.placement=befor", "model.filtres=3")
    text = "data: {name: digits}\nmodel: {name: dense}\n"
    lines = problem(write, text, *sets).splitlines()
    assert len(lines) == 3
    assert "model.name: expected one of 'conv1d'" in lines[0]
    assert any("model.placement: expected 'none', 'before' or 'after'" in line for line in lines)
    assert any("model.filtres: unknown key" in line for line in lines)


def test_a_weight_followed_twice_is_refused(write):
    item = "{layer: conv_1, index: [0, 0, 0, 0]}"
    message = problem(write, GOOD, f"train.follow_weights=[{item}, {item}]")
    assert "expected each weight once, got conv_1/kernel[0,0,0,0] twice" in message


def test_yaml_merge_keys_work(write):
    text = "x: &x {name: digits}\ndata: {<<: *x, batch_size: 8}\nmodel: {name: dense}\n"
    assert "x: unknown key" in problem(write, text)
    assert parse_yaml(text)["data"] == {"batch_size": 8, "name": "digits"}


@pytest.mark.parametrize(
    "value",
    [1e-7, 1e-5, 1.0, 3, None, True, "on", "no", "1e-3", "null", "~", "3", "", " a", "a: b", "# c",
     "gr\u00fcn", "x" * 200 + " y", "two\nlines", [], {}, [[1, 2], [3]], {"a": {"b": [{"c": 1}]}}],
)  # fmt: skip
def test_what_is_dumped_is_read_back(value):
    assert parse_yaml(config.as_yaml({"key": value})) == {"key": value}


def test_a_dumped_config_is_readable(write):
    text = config.dump_config(load_text(write, GOOD))
    assert text.startswith("seed: 3\ndata:\n  name: digits\n  batch_size: 32\n")
    assert "  filters:\n  - 4\n  - 4\n  - 4\n" in text
    assert "    epsilon: 1e-07\n" in text


def test_a_run_of_an_older_version_is_read():
    folder = Path(__file__).parent / "golden" / "run_before"
    assert config.load_resolved(folder / "config.yaml") == config.load_config(folder)


@pytest.mark.parametrize("name", ["yaml", "ruamel.yaml.clib"])
def test_no_other_reader_of_yaml_is_imported(name):
    script = f"import sys, bnzoo.config, bnzoo.cli.options; print({name!r} in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_early_stopping_on_validation_needs_validation(write):
    message = problem(write, GOOD, "train.early_stopping={}", "data.validation=none")
    assert "expected loss or accuracy, as data.validation is none, got 'val_loss'" in message


def test_differences_name_each_key(write):
    one = load_text(write, GOOD)
    other = load_text(write, GOOD, "model.placement=none", "train.optimizer={name: sgd}")
    found = config.differences(one, other)
    assert "model.placement: before there, none here" in found
    assert "train.optimizer.name: adam there, sgd here" in found
    assert "train.optimizer.momentum: absent there, 0.0 here" in found
    assert config.differences(one, one) == []


def test_every_starter_config_is_good_and_opens_with_its_command():
    starters = config.starter_configs()
    assert "quickstart" in starters
    for name, path in starters.items():
        loaded, place = config.load_config(path), path.parent.name
        command = "tune" if loaded.tune else "compare" if place == "claims" else "train"
        folder = "configs/claims" if place == "claims" else "configs"
        assert f"bnzoo {command} {folder}/{name}.yaml" in path.read_text()
        assert config.starter_summary(path).endswith(".")


def test_an_unknown_starter_names_the_near_ones():
    with pytest.raises(InputError, match=r"'quickstrt'.*Did you mean 'quickstart'"):
        config.starter_text("quickstrt")


def test_checking_a_config_imports_no_tensorflow_and_no_keras():
    script = (
        "import sys; from bnzoo import config; [config.load_config(path) for path in "
        "config.starter_configs().values()]; "
        "print([m for m in ('tensorflow', 'keras', 'jax') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


STUDY = (
    GOOD
    + """
compare:
  baseline: {model.placement: none}
  variants: {before: {model.placement: before}, wide: {model.filters: [8, 8, 8]}}
  seeds: [4, 2]
"""
)


def test_a_study_has_variants_and_seeds(write):
    loaded = load_text(write, STUDY)
    assert loaded.compare.seeds == (4, 2)
    assert list(loaded.compare.overrides()) == ["baseline", "before", "wide"]
    assert loaded.single_run() == load_text(write, GOOD)
    assert config.load_config(write(config.dump_config(loaded), "again.yaml")) == loaded


def test_the_configs_of_variants_are_those_of_bnzoo_train(write):
    path = write(STUDY)
    found = config.variant_configs(config.load_config(path), seed=4)
    assert list(found) == ["baseline", "before", "wide"]
    for name, override in (("baseline", "model.placement=none"), ("wide", "model.filters=[8,8,8]")):
        alone = config.load_config(path, ["seed=4", override, "compare=null"])
        assert found[name] == alone
        assert config.dump_config(found[name]) == config.dump_config(alone)


def test_a_variant_may_choose_another_optimizer_or_model(write):
    changes = (
        "{train.optimizer.name: sgd, model: {name: dense, units: [3]}, train.schedule: cosine}"
    )
    loaded = load_text(write, STUDY, f"compare.variants={{other: {changes}}}")
    other = config.variant_configs(loaded)["other"]
    assert other.train.optimizer.name == "sgd"
    assert other.train.optimizer.learning_rate == 3e-4  # the config's own stays
    assert (other.model.name, other.model.units) == ("dense", (3,))
    assert other.train.schedule.name == "cosine"


def test_a_variants_key_inside_another_is_not_lost_to_it(write):
    """Whichever is written first: the shorter path is set before the longer."""
    changes = "{train.optimizer.learning_rate: 0.5, train.optimizer: {name: sgd}}"
    loaded = load_text(write, STUDY, f"compare.variants={{other: {changes}}}")
    optimizer = config.variant_configs(loaded)["other"].train.optimizer
    assert (optimizer.name, optimizer.learning_rate) == ("sgd", 0.5)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("compare=3", "compare: expected a mapping, got 3."),
        ("compare={seeds: [0]}", "compare.variants: missing."),
        ("compare.variants={}", "compare.variants: expected a length of at least 1, got {}."),
        ("compare.variants.a=3", "compare.variants.a: expected a mapping, got 3."),
        ("compare.baseline=3", "compare.baseline: expected a mapping or text, got 3."),
        (
            "compare.variants.a/b={}",
            "compare.variants.a/b: expected a name of letters, digits, _ and -, got 'a/b'.",
        ),
        ("compare.variants={1: {seed: 1}}", "compare.variants.1: expected text, got 1."),
        ("compare.variants.baseline={}", "expected no variant named 'baseline'"),
        ("compare.seed=[1]", "compare.seed: unknown key 'seed'. Did you mean 'seeds'"),
        ("compare.seeds=3", "compare.seeds: expected a list of different whole numbers"),
        ("compare.seeds=[]", "at least one, got []."),
        ("compare.seeds=[1, 1]", "got [1, 1]."),
        ("compare.seeds=[-1]", "got [-1]."),
        ("compare.seeds=[true]", "got [True]."),
        (
            "compare.variants.x={model.placement: befor}",
            "run.yaml: compare.variants.x: model.placement: expected 'none', 'before' or 'after', "
            "got 'befor'. Did you mean 'before'?",
        ),
        (
            "compare.baseline={train.epoch: 3}",
            "compare.baseline: train.epoch: unknown key 'epoch'. Did you mean 'epochs'?",
        ),
        ("compare.variants.x={seed: 9}", "compare.variants.x: seed: expected another key"),
        ("compare.variants.x={compare.seeds: [9]}", "compare.seeds: expected another key"),
        ("compare.variants.x={a..b: 9}", "expected a dotted key such as train.epochs, got 'a..b'."),
        (
            "compare.variants.x={train.epochs.first: 9}",
            "compare.variants.x: train.epochs.first=9: train.epochs is 2, not a mapping",
        ),
        (
            "compare.variants.x={model.filters: [8, 8, 8]}",
            "compare.variants.x: expected another config than wide, got the same.",
        ),
        (
            "compare.variants.x={data.batch_size: 32, model.placement: none}",
            "compare.variants.x: expected another config than baseline, got the same.",
        ),
    ],
)
def test_a_problem_of_a_study_names_the_variant_and_the_key(write, override, expected):
    assert expected in problem(write, STUDY, override)


def test_every_problem_of_every_variant_is_reported_once(write):
    variants = "{before: {model.placement: x, seed: 1}, wide: {model.filters: [8], train.epoch: 3}}"
    text = STUDY.replace("epochs: 2", "epochs: -2")
    lines = problem(write, text, f"compare.variants={variants}").splitlines()
    places = [re.search(r"run\.yaml: (.*?): (?:expected|unknown)", line)[1] for line in lines]
    assert places == [
        "train.epochs",
        "compare.variants.before: seed",
        "compare.variants.before: model.placement",
        "compare.variants.wide: model.filters",
        "compare.variants.wide: train.epoch",
    ]


def test_the_page_of_all_keys_is_up_to_date():
    root = Path(__file__).parent.parent
    script = root / "scripts" / "make_config_page.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    text = (root / "configs" / "README.md").read_text(encoding="utf-8")
    assert done.stdout == text, f"run: python scripts/{script.name} > configs/README.md"
    assert "| `learning_rate` | number | `0.001` | above 0 | Step size" in text
