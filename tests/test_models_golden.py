"""Layer order and parameter counts of every published model, against a file that people can read.

After a wanted change: `python tests/test_models_golden.py` rewrites the file; review its diff.
"""

from pathlib import Path

import pytest

from bnzoo.models import build, list_models

GOLDEN = Path(__file__).parent / "golden" / "models.txt"
PLACEMENTS = ("none", "before", "after")
CLASSIFIER = {"classes": 10, "input_shape": (None, 28)}
MODELS = [(name, {}) for name in list_models()] + [("conv1d", CLASSIFIER)]


def describe(name: str, placement: str, parameters: dict) -> str:
    model = build(name, placement, **parameters)
    given = "".join(f", {key}={value}" for key, value in parameters.items())
    lines = [f"{name}{given}, placement {placement}: {model.count_params():,} parameters"]
    for layer in model.layers:
        shape = str(layer.output.shape[1:])
        kind = type(layer).__name__
        lines.append(f"    {layer.name:<12}{kind:<20}{shape:<15}{layer.count_params():>7,}")
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
    "lenet": (75 + 1) * 6 + (150 + 1) * 16 + 401 * 120 + 121 * 84 + 85 * 10,  # 62,006
    "one_conv": (9 + 1) * 16 + (16 * 16 * 16 + 1) * 10,  # 41,130
    "three_conv": (9 + 1) * 16 + 2 * (144 + 1) * 16 + (16 * 16 * 16 + 1) * 10,  # 45,770
}
NORMALIZED_CHANNELS = {
    "conv1d": 64,
    "dense": 64,
    "lenet": 6 + 16 + 120 + 84,
    "one_conv": 16,
    "three_conv": 3 * 16,
}


@pytest.mark.parametrize("name", list_models())
def test_published_counts(name):
    plain = WITHOUT_NORMALIZATION[name]
    # gamma, beta, moving mean and moving variance
    normalized = plain + 4 * NORMALIZED_CHANNELS[name]
    assert build(name, "none").count_params() == plain
    assert build(name, "before").count_params() == normalized
    assert build(name, "after").count_params() == normalized


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
