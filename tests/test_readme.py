"""The READMEs: their commands work as printed, their Python runs, numbers are up to date."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()


# Scripts import each other as they do when they are run.
sys.path.append(str(REPOSITORY / "scripts"))


def script(name):
    """Import a script, which is no module of the package."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


outputs = script("make_outputs")


def without_numbers(lines):
    """Numbers differ from machine to machine; how many epochs an early stop leaves does too."""
    shapes = [re.sub(r"\d[\d,.e-]*|\s+", "#", line) for line in lines]
    return list(dict.fromkeys(shapes))


LONG = [pytest.param(page, marks=pytest.mark.slow) for page in outputs.LONG_PAGES]


@pytest.fixture(
    scope="module", params=[page for page in outputs.PAGES if page not in outputs.LONG_PAGES] + LONG
)
def ran(request, tmp_path_factory):
    """A page, and the folder in which its commands and then its Python have run, in order."""
    text = (REPOSITORY / request.param).read_text()
    folder = tmp_path_factory.mktemp("readme")
    outputs.prepare(folder)
    printed = {
        command: outputs.run(command, folder)
        for command in outputs.commands(text)
        if outputs.is_run(command)
    }
    return text, folder, printed


def test_every_command_prints_what_the_page_shows(ran):
    text, _, printed = ran
    for block in outputs.BLOCK.findall(text):
        for command, expected in outputs.parse(block):
            if not outputs.is_run(command):
                continue
            code, lines = printed[command]
            # Those that show mistakes.
            wanted = 2 if "train.epoch=3" in command or "widht" in command else 0
            assert code == wanted, (command, lines)
            assert without_numbers(lines) == without_numbers(expected), command


def test_what_is_not_run_here_exists_and_can_be_executed():
    for name in outputs.NOT_RUN:
        assert (REPOSITORY / name).stat().st_mode & 0o111, f"chmod +x {name}"


def test_the_python_of_the_page_runs(ran):
    text, folder, _ = ran
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert text != README or "bnzoo.load_model" in code
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_results_are_up_to_date_with_their_files():
    results = script("make_results")
    assert results.updated(README) == README, "run scripts/make_results.py"


def test_the_page_of_figures_is_up_to_date_with_the_results():
    """Each study's figures are marked with a checksum of the numbers that they were drawn from."""
    results = script("make_results")
    assert results.PAGE.read_text() == results.page(), "run scripts/make_results.py"
    named = set(re.findall(r"\(figures/([\w.-]+)\)", results.PAGE.read_text()))
    assert named == {path.name for path in results.FIGURES.iterdir()}
    assert len(results.studies()) == 5


def test_it_stays_readable_in_one_sitting():
    lines = README.splitlines()
    assert len(lines) <= 180
    assert not [line for line in lines if len(line) > 100]


@pytest.mark.parametrize("page", outputs.PAGES)
def test_files_that_a_page_names_exist(page):
    text = (REPOSITORY / page).read_text()
    names = re.findall(r"`((?:bnzoo|tests|scripts|configs)/[\w/.]*\w)/?`", text)
    linked = [REPOSITORY / page / ".." / name for name in re.findall(r"\]\(([\w/.-]+)\)", text)]
    assert page != "README.md" or len(names) + len(linked) > 8
    assert not [path for path in linked if not path.resolve().exists()]
    for name in names:
        assert (REPOSITORY / name).exists(), name
