"""The READMEs: their commands work as printed, their Python runs, numbers are up to date.

By default `bnzoo` and the Python of a page run in this process, where TensorFlow has started
already, without studies and sweeps; the slow tests run every page as its reader does.
"""

import importlib.util
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from serving_exports import compare_in_this_process

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


# What studies and sweeps print is tested in test_studies_cli.py and test_tuning_cli.py too.
LONG_COMMANDS = ("bnzoo compare", "bnzoo tune")
# Real workers, which tests/test_tuning_workers.py starts too, and minutes of training.
SLOW_PAGES = ("bnzoo/tuning/README.md", *outputs.LONG_PAGES)


def python_of(text):
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def assert_printed(text, run, left_out=()):
    """Run the commands of a page in order and compare what each prints with what is shown."""
    for block in outputs.BLOCK.findall(text):
        for command, expected in outputs.parse(block):
            if not outputs.is_run(command) or command.startswith(left_out):
                continue
            code, lines = run(command)
            # Those that show mistakes.
            wanted = 2 if "train.epoch=3" in command or "widht" in command else 0
            assert code == wanted, (command, lines)
            assert without_numbers(lines) == without_numbers(expected), command


def shell(command, **options):
    return subprocess.run(command, shell=True, capture_output=True, text=True, **options).stdout


@pytest.mark.parametrize("page", [page for page in outputs.PAGES if page not in SLOW_PAGES])
def test_every_command_prints_what_the_page_shows_and_its_python_runs(
    page, call, tmp_path, monkeypatch, request
):
    if page in outputs.DATA_PAGES:
        request.getfixturevalue("data_dir")  # or skip

    def run(command):
        if not command.startswith("bnzoo ") or ">" in command:
            return outputs.run(command, tmp_path)
        ours, _, others = command.partition(" | ")
        # The shell knows what files `*` stands for.
        code, printed, _ = call(*shell(f"printf '%s\\n' {ours}").splitlines()[1:])
        shown = shell(others or "cat", input=printed)
        return code, outputs.shortened(shown.rstrip().splitlines())

    text = (REPOSITORY / page).read_text()
    outputs.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    compare_in_this_process(monkeypatch)
    assert_printed(text, run, LONG_COMMANDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of files closed when a process ends
        exec(python_of(text), {})


@pytest.mark.slow
@pytest.mark.parametrize("page", outputs.PAGES)
def test_a_page_works_from_a_shell(page, tmp_path, request):
    if page in outputs.DATA_PAGES:
        request.getfixturevalue("data_dir")  # or skip
    text = (REPOSITORY / page).read_text()
    outputs.prepare(tmp_path)
    assert_printed(text, lambda command: outputs.run(command, tmp_path))
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", python_of(text)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_shows_how_a_trained_model_is_loaded():
    assert "bnzoo.load_model" in python_of(README)


def test_what_is_not_run_here_exists_and_can_be_executed():
    for name in outputs.NOT_RUN:
        assert (REPOSITORY / name).stat().st_mode & 0o111, f"chmod +x {name}"


def test_the_results_are_up_to_date_with_their_files():
    results = script("make_results")
    for page in (results.README, results.ZOO_PAGE):
        text = page.read_text()
        assert results.updated(text) == text, "run scripts/make_results.py"


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
