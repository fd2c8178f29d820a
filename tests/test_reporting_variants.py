"""What the variants of a study came to: which are drawn as points of lines."""

import pytest

from bnzoo.reporting.variants import variant_picture


def entry(value, diverged=0):
    found = {"n": int(value is not None), "mean": value, "std": None, "values": [value]}
    return {"test_accuracy": found, "diverged": diverged, "overrides": {}}


def picture(folder, *names, value=0.5, diverged=0):
    variants = {name: entry(value, diverged) for name in names}
    return variant_picture(folder, {"variants": variants}, "test_accuracy")


@pytest.mark.parametrize(
    ("names", "are_lines"),
    [
        (["a_0", "a_1", "a_2", "b_1"], True),
        (["a_1e-2", "a_3e-1", "a_10"], True),
        (["a_1", "b_2", "c_3"], False),  # three lines of one point
        (["a_09", "a_099", "a_0999"], False),  # 0.9 and not 9
        (["a_1", "a_2", "a_1e999"], False),
        (["baseline", "a_1", "a_2", "a_3"], False),
    ],
)
def test_numbers_in_all_names_make_lines_of_three_or_more(tmp_path, names, are_lines):
    caption = picture(tmp_path, *names).caption
    assert caption.startswith("Line:" if are_lines else "Large:")


@pytest.mark.parametrize("names", [["a_1e-3", "a_1", "a_1e3"], ["a"]])
def test_where_all_diverged_there_are_crosses(tmp_path, names):
    assert "Crosses" in picture(tmp_path, *names, value=None, diverged=1).caption
