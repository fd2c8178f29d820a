"""The claims that are recorded: that pages and `bnzoo claims` tell what was measured."""

import hashlib
import json
import subprocess
import sys

import pytest

from bnzoo import config
from bnzoo.config import claims_folder, differences, load_config
from bnzoo.reporting.claims import claim_row, recorded_claims
from bnzoo.studies.claims import judge

CLAIMS = sorted(path.stem for path in claims_folder().glob("*.yaml"))


def test_each_claim_is_recorded():
    assert [one["name"] for one in recorded_claims()] == CLAIMS


@pytest.mark.parametrize("recorded", recorded_claims(), ids=lambda one: one["name"])
def test_what_is_recorded_is_of_the_config_and_judged_as_today(recorded):
    summary = recorded["summary"]
    checked = load_config(claims_folder() / f"{recorded['name']}.yaml").study()
    # Keys that have come since have their defaults.
    assert differences(config.Config.model_validate(summary["config"]), checked) == []
    assert summary["status"] == "completed"
    classes = 10  # of CIFAR-10 and MNIST
    again = judge(checked.compare.claim, summary["variants"], "test_accuracy", classes)
    assert json.loads(json.dumps(again)) == summary["claim"]
    assert recorded["seconds"] < 30 * 60
    figure = claims_folder() / "figures" / f"{recorded['name']}.png"
    assert hashlib.sha256(figure.read_bytes()).hexdigest() == recorded["figure_sha256"]


def test_the_page_tells_what_is_recorded():
    from claims_page import claims_page

    assert (claims_folder() / "README.md").read_text() == claims_page(), (
        "run scripts/make_results.py"
    )


def test_claims_prints_published_and_measured():
    command = [sys.executable, "-m", "bnzoo", "claims"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    row = claim_row(recorded_claims()[0])
    assert row["published"].split()[0] in text
    assert all(name in text.replace("\n", "") for name in ("placement", "dropout"))


def test_claims_as_json_and_without_tensorflow():
    code = (
        "import sys; from bnzoo.cli import main\n"
        "sys.argv = ['bnzoo', 'claims', '--json']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'tensorflow', 'keras', 'scipy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [one["name"] for one in json.loads(done.stdout)["claims"]] == CLAIMS
