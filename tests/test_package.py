"""What is installed: the wheel's content, the public names, the promises of the metadata."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import keras
import pytest

import bnzoo

REPOSITORY = Path(__file__).parent.parent
METADATA = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_the_wheel_holds_the_package_its_type_marker_and_the_starter_configs(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*command, str(tmp_path)], cwd=REPOSITORY, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        wheel.extractall(tmp_path / "site")
    assert {"bnzoo/__init__.py", "bnzoo/py.typed"} <= names
    templates = ("study.html.j2", "page.css")
    assert {f"bnzoo/reporting/templates/{name}" for name in templates} <= names
    cards = [path.name for path in (REPOSITORY / "bnzoo" / "models" / "weights").glob("*.json")]
    files = [card.replace(".json", ".weights.h5") for card in cards]
    assert len(cards) == 4
    assert {f"bnzoo/models/weights/{name}" for name in (*cards, *files)} <= names
    assert not [name for name in names if name.startswith(("tests/", "configs/results"))]
    assert "bnzoo/configs/results" not in {name.rpartition("/")[0] for name in names}
    configs = REPOSITORY / "configs"
    starters = {path.stem for path in [*configs.glob("*.yaml"), *configs.glob("claims/*.yaml")]}
    listed = printed_by("configs", tmp_path / "site")
    assert {line.split()[0] for line in listed.splitlines()} == starters
    assert "before and none" in printed_by("models", tmp_path / "site")


def printed_by(command, folder):
    """Run a command of the package that lies in a folder."""
    line = [sys.executable, "-m", "bnzoo", command]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_public_names_are_there_and_others_are_not():
    for name in bnzoo.__all__:
        assert getattr(bnzoo, name) is not None
        assert name in dir(bnzoo)
    assert bnzoo.BatchNormalization is bnzoo.layers.BatchNormalization
    with pytest.raises(AttributeError, match="no attribute 'BatchNormalisation'"):
        _ = bnzoo.BatchNormalisation


def test_every_dependency_has_its_tested_version():
    tested = {
        re.split("==", line)[0].lower().replace("_", "-")
        for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    extras = METADATA["project"]["optional-dependencies"]
    pinned = [*extras["test"], *extras["serve"], *extras["gpu-check"]]
    for wanted in [*METADATA["project"]["dependencies"], *pinned]:
        name = re.match(r"[\w.-]+", wanted)[0].lower().replace("_", "-")
        assert name in tested | {"bnzoo"}, f"constraints.txt has no version of {name}"


def test_the_metadata_promises_what_the_readme_says():
    project = METADATA["project"]
    assert project["requires-python"] == ">=3.11"
    assert project["scripts"] == {"bnzoo": "bnzoo.cli:main"}
    assert project["optional-dependencies"]["gpu"] == ["tensorflow[and-cuda]>=2.18"]


def test_a_saved_layer_is_known_by_our_package():
    assert keras.saving.get_registered_name(bnzoo.BatchNormalization) == "bnzoo>BatchNormalization"
