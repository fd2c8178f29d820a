"""The lines that a figure draws: means over seeds, bands, and where a run broke off."""

import math

import numpy as np
import pytest

from bnzoo.reporting import formatting
from bnzoo.reporting.curves import draw_curves
from bnzoo.reporting.page import drawn
from bnzoo.reporting.series import RunRows, VariantRuns
from bnzoo.reporting.style import looks


def run(losses, seed=0, status="completed", path=()):
    rows = [{"epoch": place + 1, "loss": loss} for place, loss in enumerate(losses)]
    return RunRows({"seed": seed, "status": status}, rows, list(path))


def test_the_mean_lies_between_the_lowest_and_the_highest_seed():
    line = VariantRuns("before", [run([1.0, 4.0]), run([2.0, 8.0]), run([6.0, 0.0])]).mean("loss")
    assert line.epochs.tolist() == [1, 2]
    assert line.values.tolist() == [3.0, 4.0]
    assert (line.low.tolist(), line.high.tolist()) == ([1.0, 0.0], [6.0, 8.0])


def test_a_run_that_stopped_early_counts_as_long_as_it_went():
    line = VariantRuns("before", [run([1.0, 4.0]), run([3.0])]).mean("loss")
    assert line.values.tolist() == [2.0, 4.0]


def test_diverged_runs_are_left_out_of_the_mean_and_end_before_the_first_bad_number():
    variant = VariantRuns("none", [run([1.0]), run([5.0, 6.0, math.nan, 1.0], 1, "diverged")])
    assert variant.mean("loss").values.tolist() == [1.0]
    (diverged,) = variant.diverged
    assert diverged.values("loss").tolist() == [5.0, 6.0]


def test_a_column_that_was_not_measured_is_an_empty_line():
    assert VariantRuns("none", [run([1.0])]).mean("val_loss").epochs.size == 0


@pytest.mark.parametrize("names", [(), ("a",), ("a", "b"), ("a", "b", "c")])
def test_a_path_needs_two_weights_and_takes_the_first_two(names):
    rows = [{"epoch": 1, "loss": 2.0} | {name: float(ord(name)) for name in names}] * 2
    found = run([2.0, 2.0], path=rows).weight_trajectory()
    if len(names) < 2:
        assert found is None
    else:
        assert (found[0], found[1].tolist()) == (["a", "b"], [[97.0, 98.0, 2.0]] * 2)


def test_one_epoch_is_no_path():
    rows = [{"epoch": 1, "loss": 2.0, "a": 1.0, "b": 2.0}]
    assert run([2.0], path=rows).weight_trajectory() is None


def test_after_one_epoch_each_variant_has_a_row_with_its_name_and_its_seeds():
    variants = [VariantRuns(name, [run([1.0]), run([2.0], 1)]) for name in ("baseline", "after")]
    (axes,) = drawn(draw_curves, variants, "loss", "Loss").axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["baseline", "after"]
    assert [line.get_xdata().tolist() for line in axes.lines if len(line.get_xdata()) == 2] == [
        [1.0, 2.0]
    ] * 2
    assert [text.get_text() for text in axes.texts] == ["1.5", "1.5"]


@pytest.mark.parametrize("low", [0.0011, 0.0009, 0.03, 0.049, 1e-9])
@pytest.mark.parametrize("start", [1.0, 1.9, 2.1, 4.9, 6.0])
def test_a_log_axis_has_more_than_one_tick(start, low):
    variants = [VariantRuns("a", [run([start, start * low])])]
    (axes,) = drawn(draw_curves, variants, "loss", "Loss").axes
    bottom, top = axes.get_ylim()
    assert axes.get_yscale() == "log"
    assert sum(bottom <= tick <= top for tick in axes.get_yticks()) >= 3


def test_a_diverged_run_does_not_flatten_the_others():
    variants = [VariantRuns("none", [run([2.0, 1.0]), run([2.0, 1e30], 1, "diverged")])]
    (axes,) = drawn(draw_curves, variants, "loss", "Loss").axes
    assert axes.get_ylim()[1] < 3
    cross = axes.lines[-1]
    assert cross.get_ydata()[0] == axes.get_ylim()[1]


@pytest.mark.parametrize(("last", "scale"), [(1.0, "linear"), (0.01, "log"), (0.0, "linear")])
def test_a_loss_that_falls_far_gets_a_log_scale(last, scale):
    (axes,) = drawn(draw_curves, [VariantRuns("a", [run([2.0, last])])], "loss", "Loss").axes
    assert axes.get_yscale() == scale


def test_variants_differ_by_more_than_color():
    found = list(looks([str(number) for number in range(30)]).values())
    assert len(set(found)) == 30
    assert len({look[1:] for look in found}) == 30


def test_names_in_a_legend_are_taken_literally():
    variants = [VariantRuns(name, [run([2.0, 1.0])]) for name in ("_a", "$b$", "c" * 40)]
    (legend,) = drawn(draw_curves, variants, "loss", "Loss").legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:2] == ["_a", "$b$"]
    assert len(texts[2]) == 28


def test_numbers_become_words():
    assert formatting.percent(0.99125) == "99.12 %"
    assert formatting.percent_spread({"mean": 0.5, "std": None}) == "50.00 %"
    assert formatting.percent_spread({"mean": None, "std": None}) == formatting.NOTHING
    assert formatting.change(-0.05, "accuracy") == f"{formatting.MINUS}5.0 points"
    lower = f"[{formatting.MINUS}6.00, {formatting.MINUS}4.00]"
    assert formatting.interval(-0.06, -0.04, "accuracy", 2) == lower
    assert formatting.reached({"n": 0, "mean": None}, 3) == "not reached"
    assert formatting.reached({"n": 2, "mean": 4.0}, 3) == "4 (2 of 3 seeds)"
    assert [formatting.duration(seconds) for seconds in (0.25, 42.4, 59.7, 200, 7500)] == [
        "0.2 s", "42 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"
    ]  # fmt: skip
    assert formatting.listed(np.arange(3)) == "0, 1 and 2"
