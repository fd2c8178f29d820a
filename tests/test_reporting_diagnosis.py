"""The page of a diagnosis: the answer first, then each kind of finding once, then every layer."""

import re

import pytest
from diagnoses import make_record
from pages import Page

from bnzoo.errors import InputError
from bnzoo.reporting.diagnosis import write_diagnosis
from bnzoo.reporting.formatting import MINUS


def write(folder, record):
    write_diagnosis(folder / "page.html", record)
    text = (folder / "page.html").read_text()
    return text, Page(text)


def test_the_answer_comes_first_then_the_repair_then_the_rest(tmp_path):
    record = make_record()
    text, page = write(tmp_path, record)
    worst = record["findings"][0]
    shown = [record["verdict"], worst["command"], "Training mode against inference", "Problems",
             worst["title"], worst["what"], worst["what_to_do"], "Notes",
             "Layer by layer"]  # fmt: skip
    places = [page.text.index(one) for one in shown]
    assert places == sorted(places)
    assert "Inference, by the moving statistics 2.31 11.00 %" in page.text
    assert "user-select: all" in text  # one click takes the whole command


def test_a_kind_of_finding_is_told_once_with_its_worst_layer_and_the_others_folded(tmp_path):
    record = make_record()
    other = {"kind": "dead", "title": "Dead channels", "layer": "layer_3", "command": "bnzoo mend"}
    record["findings"].insert(1, record["findings"][0] | other)
    text, page = write(tmp_path, record)
    headings = re.findall(r"<h3>(.*?)(?: <small>(.*)</small>)?</h3>", text)
    assert headings == [
        ("1. Moving statistics far from the data&#39;s", "52 layers"),
        ("2. Dead channels", ""),
        ("A bias that batch normalization takes away again", "3 layers"),
    ]
    assert re.findall(r"<summary>(.*)</summary>", text) == ["51 more", "2 more"]
    assert text.count("<details>") == 2
    assert page.text.count("bnzoo recalibrate runs/digits") == page.text.count("bnzoo mend") == 1
    assert "4 layer_3 1, 2 16 0.99 0.063" in page.text  # its row in the table of layers


def test_a_healthy_model_gets_a_page_that_says_so(tmp_path):
    record = make_record(healthy=True)
    text, page = write(tmp_path, record)
    assert f'<p class="verdict good">{record["verdict"]}</p>' in text
    assert "Problems" not in page.text
    assert "bnzoo recalibrate" not in page.text


def test_without_data_the_page_shows_what_the_weights_tell(tmp_path):
    text, page = write(tmp_path, make_record(data=False))
    assert "none given: the weights alone were looked at" in page.text
    assert "<svg" not in text
    assert "Training mode against" not in page.text
    assert "Off moving statistics" not in page.text  # no empty columns
    assert "52 layer_51" in page.text


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_models_of_few_layers_have_a_page(tmp_path, num_layers):
    record = make_record(num_layers)
    text, _ = write(tmp_path, record)
    assert text.count("<svg") == min(num_layers, 2)


@pytest.mark.parametrize(
    "moving",
    [
        {"mean": -4e6, "variance": 1e-9},
        {"mean": 2.0, "variance": 0.0},
        {"mean": 2.0, "variance": 1e12},
        {"mean": 1e30, "variance": 1e30},
    ],
)
def test_moving_statistics_far_off_leave_the_data_to_be_seen(tmp_path, moving):
    record = make_record(3)
    record["picture"]["moving"] = moving
    text, _ = write(tmp_path, record)
    ticks = re.findall(r"<g id=\"data-xtick_\d+\">.*?<text[^>]*>([^<]*)</text>", text, re.DOTALL)
    numbers = [float(one.replace(MINUS, "-")) for one in ticks]
    assert max(numbers) - min(numbers) < 40  # the data spans 4
    spread = moving["variance"] ** 0.5
    assert f"moving statistics: {moving['mean']:.3g} ± {spread:.3g}".replace("-", MINUS) in text


def test_a_loss_that_is_not_finite_says_so_and_what_was_not_measured_is_a_dash(tmp_path):
    record = make_record(3)
    record["modes"]["recalibrated"] = {"loss": None, "accuracy": None}
    record["layers"][1]["distance"] = record["findings"][0]["numbers"]["loss"] = None
    _, page = write(tmp_path, record)
    assert "by the statistics of the data not finite not finite" in page.text
    assert "\N{EN DASH}" in page.text


def test_the_page_stands_alone_and_is_described(tmp_path):
    record = make_record()
    record["model"] = "<b>"
    text, page = write(tmp_path, record)
    assert all(link.startswith("#") for link in page.links)
    assert "script" not in page.tags
    assert "&lt;b&gt;" in text
    assert len(page.ids) == len(set(page.ids))
    svg = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()  # colors of the page, light and dark
    labels = re.findall(r'<figure role="group" aria-label="([^"]*)"', text)
    assert [label.partition(" ")[0] for label in labels] == ["What", "How"]
    assert "mean 2 and standard deviation 0.5" in labels[0]
    assert "of layer_51, are 2.53 standard deviations off" in labels[1]


def test_an_earlier_page_is_replaced_and_nothing_else(tmp_path):
    write(tmp_path, make_record(2))
    write(tmp_path, make_record(2))
    (tmp_path / "mine.html").write_text("mine")
    for name, message in {
        "mine.html": "is not overwritten",
        "page.htm": "ends in .html",
        "mine.html/page.html": "expected a folder, got a file",
    }.items():
        with pytest.raises(InputError, match=message):
            write_diagnosis(tmp_path / name, make_record(2))
    assert (tmp_path / "mine.html").read_text() == "mine"
