"""Functions of the user's own: found without running them, called, named when they fail."""

import sys

import pytest

from bnzoo import own_code
from bnzoo.errors import InputError

TEXT = """
import math

def build(input_shape, classes, width=8):
    return input_shape, classes, width

def demanding(depth):
    return depth

def any_of(**others):
    return others

def broken():
    values = [1]
    return values[3]

class Model:
    pass
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(TEXT)
    return tmp_path


def refused(function, *arguments):
    with pytest.raises(InputError) as error:
        function(*arguments)
    return str(error.value)


@pytest.mark.parametrize("name", ["mine.py:build", "a/b.py:build", "../x.py:f", "package.module:f"])
def test_what_has_the_form_of_a_reference(name):
    assert own_code.is_reference(name)


@pytest.mark.parametrize("name", ["mnist", "folder:x", "mine.py", "mine.py:", "mine.py:a b"])
def test_what_has_not(name):
    assert not own_code.is_reference(name)


def test_a_check_runs_nothing(here):
    (here / "mine.py").write_text("raise SystemExit\n\ndef build(width): pass\n")
    (here / "package").mkdir()
    (here / "package" / "__init__.py").write_text("raise SystemExit\n")
    (here / "package" / "module.py").write_text("raise SystemExit\n\ndef build(): pass\n")
    own_code.check("mine.py:build", ["width"], [], "model.params")
    own_code.check("package.module:build", [], [], "model.params")
    assert "package" not in sys.modules


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("from other import build\n", "build"),
        ("import other as build\n", "build"),
        ("build = 3\n", "build"),
        ("class build: pass\n", "build"),
        ("try:\n    from fast import build\nexcept ImportError:\n    build = None\n", "build"),
        ("if True:\n    def build(x): pass\n", "build"),
        ("from other import *\n", "anything"),
    ],
)
def test_a_name_is_found_however_it_came_there(here, text, name):
    (here / "mine.py").write_text(text)
    own_code.check(f"mine.py:{name}", ["x"], [], "model.params")


BAD = {
    "no such file": ("other.py:build", [], "expected a Python file, found none at other.py in"),
    "no such module": ("keras_.x:build", [], "expected a module that can be imported, found no"),
    "no such part": ("keras.nothing:build", [], "found no keras.nothing"),
    "no such function": ("mine.py:biuld", [], "found none. Did you mean 'build'?"),
    "no such argument": (
        "mine.py:build",
        ["widht"],
        "model.params.widht: expected an argument of mine.py:build, which has none of that name. "
        "Did you mean 'width'?",
    ),
    "an argument is missing": (
        "mine.py:demanding",
        [],
        "model.params: expected depth, which mine.py:demanding needs, got none. "
        "Set model.params.depth, or give it a default.",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_there_is_told_in_one_line(here, case):
    name, given, message = BAD[case]
    told = refused(own_code.check, name, ["input_shape", "classes"], given, "model.params")
    assert message in told
    assert "\n" not in told


def test_a_syntax_error_has_its_file_and_line(here):
    (here / "mine.py").write_text("x = 1\ndef build(:\n")
    assert refused(own_code.check, "mine.py:build", [], [], "").startswith(
        "mine.py, line 2: SyntaxError"
    )
    assert "mine.py, line 2: SyntaxError" in refused(own_code.load, "mine.py:build")


def test_it_is_called_with_what_it_takes(here):
    offered = {"input_shape": (3,), "classes": 2, "placement": "none"}
    assert own_code.call("mine.py:build", offered, {"width": 5}, "model.params") == ((3,), 2, 5)
    assert own_code.call("mine.py:any_of", offered, {"a": 1}, "") == {"a": 1}


def test_what_is_given_comes_before_what_is_offered(here):
    offered = {"input_shape": (3,), "classes": 2}
    assert own_code.call("mine.py:build", offered, {"classes": 7}, "")[1] == 7


def test_what_the_data_does_not_tell_is_not_passed(here):
    offered = {"input_shape": (3,), "classes": None}
    told = refused(own_code.call, "mine.py:build", offered, {}, "model.params")
    assert told.startswith("model.params: expected classes, which mine.py:build needs")


def test_an_error_names_the_users_file_and_line(here):
    told = refused(own_code.call, "mine.py:broken", {}, {}, "")
    assert told == "mine.py, line 15: IndexError: list index out of range."


def test_an_error_while_it_is_imported_does_too(here):
    (here / "mine.py").write_text("import math\nimport no_such_package\n\ndef build(): pass\n")
    told = refused(own_code.load, "mine.py:build")
    assert told == "mine.py, line 2: ModuleNotFoundError: No module named 'no_such_package'."


def test_an_error_in_a_file_beside_it_is_told_by_the_line_that_went_there(here):
    (here / "helper.py").write_text("def fail():\n    raise ValueError('no')\n")
    (here / "mine.py").write_text("def build():\n    import helper\n    helper.fail()\n")
    assert refused(own_code.call, "mine.py:build", {}, {}, "") == "mine.py, line 3: ValueError: no."


def test_a_module_of_the_working_directory_is_found(here):
    (here / "my_package").mkdir()
    (here / "my_package" / "models.py").write_text("def build():\n    return 7\n")
    own_code.check("my_package.models:build", [], [], "")
    assert own_code.call("my_package.models:build", {}, {}, "") == 7
    assert str(here) not in sys.path


def test_a_changed_file_is_run_again(here):
    assert own_code.call("mine.py:demanding", {}, {"depth": 1}, "") == 1
    (here / "mine.py").write_text("def demanding(depth):\n    return -depth\n")
    assert own_code.call("mine.py:demanding", {}, {"depth": 1}, "") == -1


def test_other_text_is_noticed(here):
    before = own_code.digests(["mine.py:build", "mine.py:broken", "keras.applications:Xception"])
    assert list(before) == ["mine.py"]
    own_code.check_unchanged(before, ["mine.py:build"])
    (here / "mine.py").write_text(TEXT + "\n# changed\n")
    told = refused(own_code.check_unchanged, before, ["mine.py:build"])
    assert told.startswith("mine.py: expected the text that the first runs had, got another.")


def test_what_is_in_memory_is_found_by_its_name(here):
    def build(width=3):
        return width

    name = own_code.remember(build, "build")
    assert own_code.call(name, {"classes": 2}, {}, "") == 3
    assert "def build(width=3)" in own_code.sources([name])[name]
    assert "widht" in refused(own_code.check, name, [], ["widht"], "model.params")
    data = own_code.remember({"train": 1}, "data")
    assert own_code.call(data, {}, {}, "") == {"train": 1}


def test_classes_and_functions_of_a_file_are_known_for_loading(here):
    found = own_code.objects_of(here / "mine.py")
    assert {"Model", "build"} <= set(found)
    assert "math" not in found
    assert set(own_code.objects(["mine.py:build"])) == set(found)
