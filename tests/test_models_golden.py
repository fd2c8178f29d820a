"""Layer order and parameter counts of every published model, against a file that people can read.

After a wanted change: `python tests/test_models_golden.py` rewrites the file; review its diff.
"""

import math
from pathlib import Path

import pytest

from bnzoo.config.models import MODEL_SCHEMAS
from bnzoo.models import build, list_models

GOLDEN = Path(__file__).parent / "golden" / "models.txt"
PLACEMENTS = ("none", "before", "after")
CLASSIFIER = {"classes": 10, "input_shape": (None, 28)}
# Of these one short network in each placement; the published ones are counted below.
LARGE = {
    "inception": [{"blocks": ["3a", "3c"]}],
    "resnet": [{"depth": 8}, {"depth": 8, "preactivation": True}],
}
MODELS = [(name, given) for name in list_models() for given in LARGE.get(name, [{}])]
MODELS.append(("conv1d", CLASSIFIER))


def describe(name: str, placement: str, parameters: dict) -> str:
    model = build(name, placement, **parameters)
    given = "".join(f", {key}={value}" for key, value in parameters.items())
    lines = [f"{name}{given}, placement {placement}: {model.count_params():,} parameters"]
    for layer in model.layers:
        shape = str(layer.output.shape[1:])
        kind = type(layer).__name__
        lines.append(f"    {layer.name:<12}{kind:<24}{shape:<15}{layer.count_params():>7,}")
    return "\n".join(lines) + "\n"


def describe_all() -> str:
    sections = [describe(name, where, given) for name, given in MODELS for where in PLACEMENTS]
    return "\n".join(sections)


def test_layers_and_counts_are_those_of_the_golden_file():
    assert describe_all() == GOLDEN.read_text(), __doc__


# Worked out by hand: (inputs + 1 bias) x outputs of each layer.
WITHOUT_NORMALIZATION = {
    "conv1d": (3 * 256 + 1) * 64,  # 49,216
    "dense": (784 + 1) * 64 + (64 + 1) * 10,  # 50,890
    "f1": 785 * 512 + 4 * 513 * 512 + 513 * 10,
    # With gamma and beta as osmr/imgclsmob counts it, from the same table of the paper.
    "inception": 11_295_240 - 2 * 10_016,
    "lenet": (75 + 1) * 6 + (150 + 1) * 16 + 401 * 120 + 121 * 84 + 85 * 10,  # 62,006
    "one_conv": (9 + 1) * 16 + (16 * 16 * 16 + 1) * 10,  # 41,130
    "resnet": 28 * 16 + 6 * 145 * 16 + (145 + 5 * 289) * 32 + (289 + 5 * 577) * 64 + 65 * 10,
    "sigmoid_mlp": 785 * 100 + 2 * 101 * 100 + 101 * 10,
    "three_conv": (9 + 1) * 16 + 2 * (144 + 1) * 16 + (16 * 16 * 16 + 1) * 10,  # 45,770
    "vgg": 28 * 64 + 577 * 128 + (1153 + 2305) * 256 + (2305 + 3 * 4609) * 512 + 513 * 10,
}
NORMALIZED_CHANNELS = {
    "conv1d": 64,
    "dense": 64,
    "f1": 5 * 512,
    # stem, then 3a to 3c, 4a to 4e, 5a and 5b
    "inception": 320 + 480 + 2 * 544 + 864 + 896 + 1024 + 1088 + 1024 + 1600 + 1632,
    "lenet": 6 + 16 + 120 + 84,
    "one_conv": 16,
    "resnet": 7 * 16 + 6 * 32 + 6 * 64,
    "sigmoid_mlp": 3 * 100,
    "three_conv": 3 * 16,
    "vgg": 64 + 128 + 2 * 256 + 4 * 512,
}


@pytest.mark.parametrize("name", list_models())
def test_published_counts(name):
    plain = WITHOUT_NORMALIZATION[name]
    # gamma, beta, moving mean and moving variance
    normalized = plain + 4 * NORMALIZED_CHANNELS[name]
    assert build(name, "none", use_bias=True).count_params() == plain
    assert build(name, "before", use_bias=True).count_params() == normalized
    assert build(name, "after", use_bias=True).count_params() == normalized


@pytest.mark.parametrize("name", list_models())
def test_listed_counts_are_those_of_the_models(name):
    assert MODEL_SCHEMAS[name].published_count == build(name).count_params()


@pytest.mark.parametrize(
    ("name", "parameters", "trainable"),
    [
        ("resnet", {"depth": 20}, 269_722),  # 0.27 M in He et al. 2016, table 6
        ("resnet", {"depth": 110}, 1_727_962),  # 1.7 M there
        ("resnet", {"depth": 20, "preactivation": True}, 269_722),
        ("resnet", {"depth": 18}, 11_689_512),  # as torchvision
        ("resnet", {"depth": 34}, 21_797_672),
        ("resnet", {"depth": 50}, 25_557_032),
        # The table's branches, as osmr/imgclsmob counts them with biases. The paper's section 4.2
        # says 13.6 million, which its table does not give.
        ("inception", {"use_bias": True}, 11_295_240),
        ("vgg", {}, 9_231_114),  # VGG-11 as usual on CIFAR-10, with one dense layer
    ],
)
def test_trainable_parameters_are_as_many_as_published(name, parameters, trainable):
    weights = build(name, **parameters).trainable_weights
    assert sum(math.prod(weight.shape) for weight in weights) == trainable


def test_sums_worked_out_above_are_the_published_ones():
    assert WITHOUT_NORMALIZATION["dense"] == 50_890
    assert WITHOUT_NORMALIZATION["lenet"] == 62_006


def test_bare_conv1d_is_three_layers_of_the_sources():
    model = build("conv1d")
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer", "Conv1D", "BatchNormalization"]
    assert model.input_shape == (None, 128, 256)
    assert model.output_shape == (None, 126, 64)


if __name__ == "__main__":
    GOLDEN.write_text(describe_all())
