"""The report of a sweep: its cells, its figures, what it says, and that it stands alone."""

import html
import json
import re

import pytest
from pages import Page
from sweep_folders import RATE, RATES, make_sweep

from bnzoo.reporting import formatting
from bnzoo.reporting.page import drawn
from bnzoo.reporting.sweep_figures import draw_importance, draw_scores
from bnzoo.reporting.sweep_grid import read_grid
from bnzoo.reporting.sweep_report import write_sweep_report
from bnzoo.tuning.importance import key_importance
from bnzoo.tuning.verdict import sweep_verdict


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
    assert grid.rows == list(RATES)
    assert grid.placements == ["none", "before", "after"]
    assert len(grid.cells) == 21
    best = grid.cells[5, "before"]
    assert f"{100 * best.mean:.1f} %" in text
    assert ">0.0004642<" in text  # as its trials are named
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


def searched_at_random(summary, low=1e-4, high=1.0, scale="log"):
    """Make a sweep one whose rates were drawn from a range."""
    span = {"min": low, "max": high, "steps": None, "scale": scale}
    summary["algorithm"] = "random"
    summary["config"]["tune"] = {"space": {RATE: span}}
    return summary


def axes_of(grid):
    return drawn(draw_scores, grid, "Validation accuracy over learning rate", True).axes[0]


def ticks(axes):
    """Return the labels of the rate axis that can be seen."""
    low, high = axes.get_xlim()
    places = axes.get_xticks()
    formatter = axes.xaxis.get_major_formatter()
    return [formatter(place) for place in places if low <= place <= high]


def test_a_random_search_is_drawn_as_points_and_not_as_a_map(tmp_path):
    rates = tuple(1e-2 * 1.1**number for number in range(10))
    summary = searched_at_random(make_sweep(tmp_path, rates=rates))
    write_sweep_report(tmp_path, summary)
    grid = read_grid(summary)
    assert not grid.is_table
    assert not (tmp_path / "figures" / "heat_map.png").exists()
    assert (tmp_path / "figures" / "rate.png").exists()
    assert "Point: a trial" in Page((tmp_path / "report.html").read_text()).text
    points = [line for line in axes_of(grid).lines if len(line.get_xdata()) == 10]
    assert [line.get_linestyle() for line in points] == ["None"] * 3


def test_the_rate_axis_has_the_scale_of_the_search_and_at_least_two_ticks(tmp_path):
    for number, (low, high) in enumerate([(1e-4, 1.0), (0.02, 0.08), (0.06, 0.09), (0.3, 3.0)]):
        rates = tuple(low * (high / low) ** (n / 7) for n in range(8))
        folder = tmp_path / str(number)
        summary = searched_at_random(make_sweep(folder, rates=rates), low, high)
        axes = axes_of(read_grid(summary))
        assert axes.get_xscale() == "log"
        assert len(ticks(axes)) > 1, (low, high)
    searched_at_random(summary, scale="linear")
    assert axes_of(read_grid(summary)).get_xscale() == "linear"


def test_crosses_of_diverged_trials_stand_below_all_scores(written):
    axes = axes_of(read_grid(written[1]))
    low, high = axes.get_ylim()
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    scores = [y for line in axes.lines if line not in crosses for y in line.get_ydata()]
    assert len(crosses) == 3
    assert max(line.get_ydata()[0] for line in crosses) < (min(scores) - low) / (high - low)


def test_more_listed_rates_than_a_table_can_show_are_points(tmp_path):
    rates = tuple(1e-4 * 1.1**number for number in range(60))
    summary, _, page = write(tmp_path, rates=rates, placements={"before": 0.1}, seeds=(0,))
    assert not read_grid(summary).is_table
    assert "Point: a trial, one seed." in page.text


def test_words_and_lists_are_searched_as_rows_in_their_order(tmp_path):
    summary = make_sweep(tmp_path)
    names = dict(zip(RATES, ("relu", "elu", "gelu", "selu", "tanh", "silu", "mish"), strict=True))
    for trial in summary["trials"]:
        trial["values"] = {"model.activation": names[trial["values"].pop(RATE)]}
    write_sweep_report(tmp_path, summary)
    grid = read_grid(summary)
    assert grid.rows == list(names.values())
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
    _, summary, text, page = written
    assert " ".join(summary["verdict"].splitlines()) in page.text
    assert "<br>\n".join(summary["verdict"].splitlines()) in html.unescape(text)
    assert "before against none" in page.text
    assert (
        "diverged: the loss was 9000, over 1,000 times the 2.3 of the first batch, at step 7"
        in (page.text)
    )
    assert "2 of 7" in page.text  # of the trials without batch normalization
    assert f"The best trial is chosen by {summary['chosen_by']}." in page.text
    for said in ("Stable: ", "are optimistic", "counts as worse than any other"):
        assert page.text.count(said) == 1
    assert "0.2154 (not 1)" in page.text
    assert summary["command"] in page.text


def test_a_trial_has_one_name_in_the_table_and_the_verdict(written):
    _, summary, text, _ = written
    name = "learning_rate 0.2154, placement before"
    assert summary["verdict"].startswith(f"Best is {name}: validation accuracy 96.")
    assert f'<th scope="row">{name}</th>' in text
    assert f'<td class="name">{name}</td>' in text


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


def test_the_verdict_claims_no_more_than_the_seeds_bear(tmp_path):
    summary = make_sweep(tmp_path / "a", seeds=(0, 1))
    text = summary["verdict"]
    for comparison in summary["comparisons"][:2]:
        assert f"Against the best of {comparison['placements'][1]}: {comparison['text']}." in text
    assert "Such differences are optimistic: " in text
    assert (
        "Largest stable learning rate, none: 0.04642 (not 0.2154); before: 0.2154 (not 1)" in text
    )
    assert "\nStable: no trial with it diverged, and one was within 5 points of " in text
    assert len(text.splitlines()) == 6
    assert "settled" not in text.replace("do not settle", "")

    one_seed = make_sweep(tmp_path / "b", seeds=(0,))["verdict"]
    assert one_seed.count("points with one seed, which settles nothing") == 2
    assert one_seed.endswith("One seed a trial: none of this is settled.")
    assert "interval" not in one_seed


def test_the_verdict_of_a_sweep_without_a_best_trial_says_why(tmp_path):
    summary = make_sweep(tmp_path)
    text = sweep_verdict({**summary, "status": "interrupted"})
    assert text.startswith("Not finished. So far:\nBest is ")
    assert sweep_verdict({**summary, "best": None}) == "Every trial diverged."


MOMENTUM = "train.optimizer.momentum"


def with_momentum(summary, score=None):
    """Make a sweep one of three keys, of which the momentum decides, or as `score` has it."""
    for number, trial in enumerate(summary["trials"]):
        momentum = (0.0, 0.5, 0.9)[number * 7 % 11 % 3]
        trial["values"] = {**trial["values"], MOMENTUM: momentum}
        for run in trial["runs"]:
            if run["score"] is not None:
                run["score"] = score(number) if score else momentum + run["score"] / 10
    importance = key_importance(summary["trials"], summary["objective"]["direction"])
    summary["importance"] = importance
    return {**summary, "verdict": sweep_verdict(summary)}


def test_of_three_keys_the_page_says_and_draws_which_mattered_most(tmp_path):
    rates = tuple(0.01 * 1.3**number for number in range(10))
    summary = with_momentum(make_sweep(tmp_path, rates=rates))
    write_sweep_report(tmp_path, summary)
    assert (tmp_path / "figures" / "importance.png").exists()
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert "Of the keys, momentum mattered most: it makes " in summary["verdict"]
    assert summary["importance"]["text"] in page.text
    assert "Bar: how much of the differences between trials comes from the key" in page.text
    assert "The spread between seeds alone would make 0 %." in page.text
    assert ">Which key mattered most<" in text
    assert text.index(">Which key mattered most<") < text.index(">Validation accuracy at the best")
    assert len(page.ids) == len(set(page.ids))


def test_the_bars_are_sorted_and_have_their_intervals(tmp_path):
    keys = with_momentum(make_sweep(tmp_path))["importance"]["keys"]
    axes = drawn(draw_importance, keys).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == "momentum"
    assert set(names) == {"momentum", "learning_rate", "placement"}
    assert axes.yaxis_inverted()  # the first is on top
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == sorted(widths, reverse=True)
    (lines,) = axes.collections
    ends = [[x for x, _ in segment] for segment in lines.get_segments()]
    assert ends == [pytest.approx(entry["interval"]) for entry in keys.values()]


def test_three_keys_of_which_nothing_can_be_told_have_a_sentence_and_no_figure(tmp_path):
    summary = with_momentum(make_sweep(tmp_path), lambda number: number * 7 % 5)
    write_sweep_report(tmp_path, summary)
    page = Page((tmp_path / "report.html").read_text())
    assert "Too few trials to tell which key mattered most" in page.text
    assert not (tmp_path / "figures" / "importance.png").exists()
    assert (tmp_path / "figures" / "rate.png").exists()


def test_two_keys_have_no_figure_of_which_mattered_most(written):
    folder, summary, text, _ = written
    assert summary["importance"] is None
    assert not (folder / "figures" / "importance.png").exists()
    assert "mattered most" not in text
