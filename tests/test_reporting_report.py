"""The report of a study: what it shows, that it stands alone, and that it is repeatable."""

import re
import shutil
import subprocess
import sys

import pytest
from pages import Page
from study_folders import VARIANTS, make_study

from bnzoo.reporting.report import write_study_report
from bnzoo.reporting.style import COLORS


def write(folder, **changes):
    folder.mkdir(exist_ok=True)
    summary = make_study(folder, **changes)
    write_study_report(folder, summary)
    text = (folder / "report.html").read_text()
    return summary, text, Page(text)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, *write(folder)


def test_the_verdict_comes_first_then_figures_numbers_and_what_was_run(written):
    _, summary, _, page = written
    verdicts = [variant["verdict"] for variant in summary["variants"].values()]
    headings = ["Over the epochs", "The loss over two weights", "Numbers", "What was run"]
    places = [page.text.index(text) for text in (*verdicts, *headings)]
    assert places == sorted(places)


def test_baseline_and_variants_are_explained_where_they_are_first_named(written):
    _, _, _, page = written
    expected = (
        "baseline: its verdict. What the others are compared with: the config with "
        "model.placement: none . before: its verdict. The config with model.placement: before ."
    )
    assert expected in page.text
    assert page.text.index(expected) < page.text.index("Over the epochs")


def test_the_page_says_which_test_decides_and_what_it_assumes(written):
    _, _, _, page = written
    for text in ("paired two-sided Student t test", "roughly normal", "seeds independent",
                 "one split of the data"):  # fmt: skip
        assert text in page.text


def test_the_page_says_which_run_is_the_best_and_how_it_was_chosen(written, tmp_path):
    _, summary, _, page = written
    runs = summary["variants"]["before"]["runs"]
    seed = max(range(3), key=lambda seed: runs[seed]["best"]["val_accuracy"])
    assert (
        f"before seed {seed}: before has the highest mean test accuracy, and of its runs seed "
        f"{seed} the best validation accuracy. bnzoo export"
    ) in page.text
    _, _, unsteady = write(tmp_path / "study", diverged={("before", 1)})
    assert "after has the highest mean test accuracy of the variants that never" in unsteady.text


def test_on_a_phone_each_cell_of_the_table_says_its_heading(written):
    """At 400 px the columns would be cut off: the rows are stacked."""
    _, _, text, _ = written
    rows = re.findall(r"<tr>\n<th scope=\"row\">.*?</tr>", text, re.DOTALL)
    assert len(rows) == len(VARIANTS)
    for row in rows:
        assert row.count("<td") == row.count("<td data-label=") == 7
    narrow = text[text.index("(max-width: 48rem)") :]
    assert ".stacked td::before { content: attr(data-label)" in narrow
    assert "local" in text[text.index(".scroll {") : text.index("no-repeat")]  # the hint to scroll


def test_the_page_stands_alone(written):
    _, _, text, page = written
    assert all(link.startswith("#") for link in page.links)
    assert "script" not in page.tags
    assert "http" not in re.sub(r'http-equiv|xmlns(:xlink)?="[^"]*"', "", text)
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'" in text


def test_identifiers_are_unique_and_references_are_met(written):
    _, _, text, page = written
    assert len(page.ids) == len(set(page.ids))
    used = re.findall(r'url\(#([^)]*)\)|xlink:href="#([^"]*)"|labelledby="([^"]*)"', text)
    assert {first or second or third for first, second, third in used} <= set(page.ids)


def test_figures_take_every_color_from_the_page(written):
    _, _, text, _ = written
    svg = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()
    css = text[text.index("<style>") : text.index("</style>")]
    light, dark = css.split("prefers-color-scheme: dark")
    for number, color in enumerate(COLORS):
        assert f"--series-{number}: {color};" in light
        assert f"--series-{number}: #" in dark
    assert set(re.findall(r"var\((--[\w-]+)\)", text)) <= set(re.findall(r"(--[\w-]+):", light))


def test_figures_are_described_and_written_as_png(written):
    folder, _, text, page = written
    assert page.tags.count("svg") == 2 + len(VARIANTS)
    labels = re.findall(r'<figure role="group" aria-label="([^"]*)"', text)
    assert len(labels) == 5
    assert "before ends at 99." in labels[0]
    for name in ("accuracy", "loss", "weights_path"):
        header = (folder / "figures" / f"{name}.png").read_bytes()[:8]
        assert header == b"\x89PNG\r\n\x1a\n"


def test_the_table_holds_the_summarys_numbers(written):
    _, summary, _, page = written
    before = summary["variants"]["before"]
    accuracy, difference = before["test_accuracy"], before["difference"]
    low, high = (f"{100 * bound:.2f}" for bound in difference["interval"])
    for text in (
        f"{100 * accuracy['mean']:.2f} ± {100 * accuracy['std']:.2f} %",
        f"{100 * difference['mean']:+.2f} [{low}, {high}]",
        f"{100 * before['runs'][1]['test_accuracy']:.2f} %",
        "to 94.63 %",
        "3.3 1,774 steps",
    ):
        assert text in page.text


def test_what_was_run_can_be_run_again(written):
    _, summary, _, page = written
    for text in (summary["command"], summary["protocol"], "18 min 27 s for 270 epochs",
                 "tensorflow 2.21.0", "cpu: A processor", "model.placement: none",
                 "learning_rate: 0.001"):  # fmt: skip
        assert text in page.text


def test_the_accuracy_is_labelled_by_the_examples_it_was_measured_on(written, tmp_path):
    folder, summary, text, _ = written
    assert "Test accuracy after each epoch (published protocol)" in text
    shutil.copytree(folder, tmp_path / "copy")
    summary["config"]["data"]["validation"] = 0.2
    write_study_report(tmp_path / "copy", summary)
    summary["config"]["data"]["validation"] = "test"
    text = (tmp_path / "copy" / "report.html").read_text()
    assert "Validation accuracy after each epoch" in text
    assert "(published protocol)" not in text


def test_equal_input_gives_equal_files(written, tmp_path):
    folder, summary, _, _ = written
    shutil.copytree(folder / "runs", tmp_path / "runs")
    write_study_report(tmp_path, summary)
    for name in ("report.html", "figures/accuracy.png", "figures/weights_path.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_interrupted_diverged_and_missing_runs_are_named(tmp_path):
    changes = {"diverged": {("baseline", 1)}, "missing": {("after", 1), ("after", 2)}}
    _, text, page = write(tmp_path / "study", **changes)
    assert "2 of 9 runs are missing: after seed 1, after seed 2." in page.text
    assert page.text.index("Incomplete.") < page.text.index("Over the epochs")
    assert "baseline seed 1: the loss was no longer finite at step 1,801 (epoch 4)." in page.text
    assert "seed 1 diverged" in page.text
    assert "seed 2 missing" in page.text
    assert "diverged after this" in text
    assert "(one seed)" in page.text


def test_one_seed_has_no_band(tmp_path):
    _, _, page = write(tmp_path / "study", seeds=(0,), epochs=2)
    assert "there is no band" in page.text


def test_one_epoch_has_no_curves_and_no_path(tmp_path):
    _, text, page = write(tmp_path / "study", epochs=1)
    assert "After the only epoch. Large: mean over the seeds. Small: each seed." in page.text
    assert page.tags.count("svg") == 2
    assert "The loss over two weights" not in page.text
    assert all(f">{name}</text>" in text for name in VARIANTS)  # labels beside the points


def test_all_diverged_before_the_first_epoch_leaves_a_page_without_figures(tmp_path):
    every = {(name, 0) for name in VARIANTS}
    summary = make_study(tmp_path, seeds=(0,), diverged=every)
    shutil.rmtree(tmp_path / "runs")
    write_study_report(tmp_path, summary)
    page = Page((tmp_path / "report.html").read_text())
    assert "there is nothing to draw" in page.text
    assert "svg" not in page.tags


def test_texts_of_others_are_escaped(tmp_path):
    wild = "<script>alert(1)</script> $x_ & 'y'"
    (tmp_path / "study").mkdir()
    summary = make_study(tmp_path / "study", epochs=2)
    summary["variants"]["_before"] = summary["variants"].pop("before") | {"verdict": wild}
    summary |= {"name": wild, "command": wild}
    write_study_report(tmp_path / "study", summary)
    page = Page((tmp_path / "study" / "report.html").read_text())
    assert "script" not in page.tags
    assert page.text.count(wild) == 4
    assert "_before seed 0" in (tmp_path / "study" / "report.html").read_text()


def test_reporting_starts_neither_tensorflow_nor_keras():
    script = (
        "import sys, bnzoo.reporting.report, bnzoo.reporting.worked_example\n"
        "assert not {'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
