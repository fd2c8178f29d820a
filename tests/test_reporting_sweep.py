"""The report of a sweep: its cells, its figures, what it says, and that it stands alone."""

import json
import re

import pytest
from pages import Page
from sweep_folders import RATE, RATES, make_sweep

from bnzoo.reporting import formatting
from bnzoo.reporting.sweep_grid import read_grid
from bnzoo.reporting.sweep_report import write_sweep_report
from bnzoo.tuning.verdict import best_words, sweep_verdict


def write(folder, **changes):
    folder.mkdir(exist_ok=True)
    summary = make_sweep(folder, **changes)
    write_sweep_report(folder, summary)
    text = (folder / "report.html").read_text()
    return summary, text, Page(text)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return folder, *write(folder)


def test_the_heat_map_has_a_cell_for_each_rate_and_placement(written):
    _, summary, text, _ = written
    grid = read_grid(summary)
    assert [row.label for row in grid.rows] == [
        "0.0001", "0.000464", "0.00215", "0.01", "0.0464", "0.215", "1",
    ]  # fmt: skip
    assert grid.placements == ["none", "before", "after"]
    assert len(grid.cells) == 21
    best = grid.cells[5, "before"]
    assert f"{100 * best.mean:.1f} %" in text
    assert text.count(">diverged<") == 4  # three cells, and the legend of the curves


def test_cells_with_divergence_are_marked_and_have_no_mean(written):
    grid = read_grid(written[1])
    diverged = {key for key, cell in grid.cells.items() if cell.diverged}
    assert diverged == {(5, "none"), (6, "none"), (6, "after")}
    assert all(grid.cells[key].mean is None for key in diverged)


def test_a_cell_of_several_trials_shows_the_best_of_them(tmp_path):
    summary = make_sweep(tmp_path)
    trial = json.loads(json.dumps(summary["trials"][0]))
    better = {**trial, "trial": "0099", "score": 0.999}
    better["runs"] = [{**run, "score": 0.999} for run in trial["runs"]]
    summary["trials"] += [better, {**trial, "trial": "0100", "score": 0.1}]
    assert read_grid(summary).cells[0, "none"].mean == pytest.approx(0.999)


def test_many_rates_are_gathered_into_intervals(tmp_path):
    rates = tuple(1e-4 * 1.1**number for number in range(60))
    summary, _, page = write(tmp_path, rates=rates, placements={"before": 0.1}, seeds=(0,))
    grid = read_grid(summary)
    assert grid.is_gathered
    assert len(grid.rows) == 12
    assert sum(cell.mean is not None for cell in grid.cells.values()) == 12
    assert "gathered into intervals" in page.text
    assert "there is no band" in page.text


def test_words_and_lists_are_searched_as_rows_in_their_order(tmp_path):
    summary = make_sweep(tmp_path)
    names = dict(zip(RATES, ("relu", "elu", "gelu", "selu", "tanh", "silu", "mish"), strict=True))
    for trial in summary["trials"]:
        trial["values"] = {"model.activation": names[trial["values"].pop(RATE)]}
    write_sweep_report(tmp_path, summary)
    grid = read_grid(summary)
    assert [row.label for row in grid.rows] == list(names.values())
    assert not grid.is_number
    assert "mish" in (tmp_path / "report.html").read_text()


def test_a_sweep_over_the_placement_alone_has_no_map_and_says_so(tmp_path):
    summary = make_sweep(tmp_path, rates=(0.01,))
    for trial in summary["trials"]:
        del trial["values"][RATE]
    write_sweep_report(tmp_path, summary)
    assert read_grid(summary) is None
    page = Page((tmp_path / "report.html").read_text())
    assert "there is nothing to draw" in page.text
    assert not (tmp_path / "figures" / "heat_map.png").exists()


def test_the_report_names_what_was_best_stable_and_diverged(written):
    _, summary, _, page = written
    assert summary["verdict"] in page.text
    assert "before against none" in page.text
    assert (
        "diverged: the loss was 9000, over 1,000 times the 2.3 of the first batch, at step 7"
        in (page.text)
    )
    assert "2 of 7" in page.text  # of the trials without batch normalization
    assert "no trial with it diverged, whatever else was searched" in page.text
    assert "within 5 points of the best accuracy of its placement." in page.text
    assert summary["command"] in page.text


def test_the_report_of_hyperband_says_after_how_many_epochs_a_rate_counts(tmp_path):
    summary = make_sweep(tmp_path) | {"algorithm": "hyperband"}
    write_sweep_report(tmp_path, summary)
    text = Page((tmp_path / "report.html").read_text()).text
    assert "of its placement, after the most epochs that the placement was given." in text


def test_the_page_opens_without_a_network_and_its_figures_are_files(written):
    folder, _, text, page = written
    assert all(link.startswith("#") for link in page.links)
    assert "http" not in re.sub(r'http-equiv|xmlns(:xlink)?="[^"]*"', "", text)
    assert len(page.ids) == len(set(page.ids))
    assert sorted(path.name for path in (folder / "figures").iterdir()) == [
        "accuracy.png", "heat_map.png", "loss.png", "rate.png",
    ]  # fmt: skip


def test_equal_sweeps_give_equal_files(written, tmp_path):
    folder, _, text, _ = written
    assert write(tmp_path)[1] == text
    for figure in (folder / "figures").iterdir():
        assert (tmp_path / "figures" / figure.name).read_bytes() == figure.read_bytes()


def test_a_loss_is_shown_as_a_number_and_low_is_good(tmp_path):
    summary, text, page = write(tmp_path, metric="val_loss")
    best = summary["placements"]["before"]["best"]["scores"]
    assert formatting.score(best, "val_loss") in page.text
    assert "Validation loss at the best epoch" in text


def test_a_sweep_that_was_stopped_before_any_trial_ended_has_a_page(tmp_path):
    summary = make_sweep(tmp_path) | {"status": "interrupted", "trials": [], "comparisons": []}
    summary |= {"placements": {}, "best": None, "verdict": "Not finished."}
    write_sweep_report(tmp_path, summary)
    assert "Incomplete." in Page((tmp_path / "report.html").read_text()).text


def test_the_verdict_names_the_best_the_others_and_the_stable_rates(tmp_path):
    summary = make_sweep(tmp_path)
    summary["best"]["words"] = best_words(summary["best"], "val_accuracy")
    text = sweep_verdict(summary)
    assert text.startswith(
        "Best is learning rate 0.2154, placement before: validation accuracy 96."
    )
    assert "Difference to the best of none (" in text
    assert ", of after (" in text
    assert "Largest stable learning rate by placement: none: 0.04642, before: 0.2154, " in text
    assert sweep_verdict({**summary, "status": "interrupted"}).startswith("Not finished. So far: ")
    assert sweep_verdict({**summary, "best": None}) == "Every trial diverged."


def test_a_difference_turned_round_has_its_interval_turned_round():
    turned = formatting.negated({"mean": 0.02, "interval": [-0.01, 0.05], "n": 2})
    assert turned == {"mean": -0.02, "interval": [-0.05, 0.01], "n": 2}
    minus = formatting.MINUS
    assert formatting.gain(turned, "val_accuracy") == f"{minus}2.00 points [{minus}5.00, 1.00]"
    none = formatting.negated({"mean": 0.0, "interval": [-1e-9, 0.0], "n": 2})
    assert formatting.gain(none, "val_accuracy") == "+0.00 points [0.00, 0.00]"
