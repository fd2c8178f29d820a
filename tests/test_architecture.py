"""The one-way street: which room may import which. A failure says where to look."""

import ast
from pathlib import Path

import pytest

import bnzoo

PACKAGE = Path(bnzoo.__file__).parent
ROOMS = ("config", "data", "layers", "models", "ops", "serving", "surgery", "training", "cli")

# What each room may import of bnzoo, besides itself and `errors`.
MAY_IMPORT = {
    "config": {"exclusive", "own_code"},
    "environment": set(),
    "errors": set(),
    "exclusive": set(),
    "files": set(),
    "own_code": {"files"},
    "in_python": {"config", "own_code", "runs", "studies", "tuning"},
    "quiet": set(),
    "versions": set(),
    "workers": set(),
    "runs": {"config", "files", "own_code"},
    "data": {"config", "environment", "files", "own_code"},
    "ops": {"versions"},
    "layers": {"exclusive", "ops", "versions"},
    "models": {"config", "layers", "own_code", "surgery"},
    "saving": {"environment", "files", "layers", "models", "own_code", "runs"},
    "training": {
        "config",
        "data",
        "diagnosis",
        "environment",
        "files",
        "layers",
        "saving",
        "models",
        "ops",
        "own_code",
        "runs",
        "surgery",  # statistics re-estimated after each epoch
        "versions",
        "workers",
    },
    "reporting": {"config", "environment", "files", "runs"},
    "diagnosis": {"layers", "reporting", "surgery"},
    "studies": {
        "config",
        "data",
        "environment",
        "files",
        "saving",
        "own_code",
        "reporting",
        "runs",
        "training",
        "versions",
        "workers",
    },
    "tuning": {
        "config",
        "data",
        "environment",
        "files",
        "own_code",
        "reporting",
        "runs",
        "studies",
        "training",
        "workers",
    },
    "surgery": {"layers", "ops", "versions"},
    "serving": {"config", "data", "environment", "files", "quiet", "saving", "runs", "surgery"},
    "cli": {
        "config",
        "data",
        "diagnosis",
        "environment",
        "files",
        "layers",
        "quiet",
        "reporting",
        "runs",
        "saving",
        "serving",
        "studies",
        "surgery",
        "training",
        "tuning",
        "workers",
    },
}
WITHOUT_KERAS = (
    "config",
    "environment",
    "errors",
    "exclusive",
    "files",
    "in_python",
    "own_code",
    "reporting",
    "runs",
    "workers",
)
# Imported lazily, inside functions, where only the TensorFlow backend goes.
WITHOUT_TENSORFLOW_AT_IMPORT = (
    "ops",
    "layers",
    "models",
    "saving",
    "quiet",
    "versions",
    "training",
    "studies",
    "tuning",
    "surgery",
    "cli",
)


def modules():
    return sorted(
        path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or _is_room(path)
    )


def _is_room(path):
    return path.stem in MAY_IMPORT


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write absolute imports: `from bnzoo.room import name`"
            yield node.module
            if node.module == "bnzoo":
                yield from (f"bnzoo.{alias.name}" for alias in node.names)


def test_every_room_has_its_row_in_the_table():
    found = {room_of(path) for path in modules()} | {
        path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()
    }
    assert found == set(MAY_IMPORT), "a new room needs a row in MAY_IMPORT"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room, tree = room_of(path), ast.parse(path.read_text())
    for name in imported_names(tree):
        parts = name.split(".")
        if parts[0] == "bnzoo" and len(parts) > 1 and parts[1] in MAY_IMPORT:
            allowed = MAY_IMPORT[room] | {room, "errors"}
            assert parts[1] in allowed, (
                f"{room}/ must not import bnzoo.{parts[1]} (it may: {sorted(allowed)}). Move the "
                "code to the room that may, or hand the value in as an argument."
            )
        if room in WITHOUT_KERAS:
            assert parts[0] not in ("tensorflow", "keras", "jax"), (
                f"{room} must load without {parts[0]}: `bnzoo check` and `--help` are to be quick."
            )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_tensorflow_is_not_imported_where_other_backends_go(path):
    if room_of(path) not in WITHOUT_TENSORFLOW_AT_IMPORT:
        return
    for node in ast.parse(path.read_text()).body:
        names = list(imported_names(ast.Module([node], [])))
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert not [name for name in names if name.split(".")[0] == "tensorflow"], (
                "import tensorflow inside the function that needs it: this room also runs on JAX"
            )


def test_two_files_import_keras_tuner():
    """It is unmaintained: what replaces it one day replaces its oracles and its wire."""
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(
            name.startswith("keras_tuner") for name in imported_names(ast.parse(path.read_text()))
        )
    }
    assert found == {"tuning/oracles.py", "tuning/search.py"}


def test_a_file_is_one_idea():
    long = {
        str(path.relative_to(PACKAGE)): count
        for path in PACKAGE.rglob("*.py")
        if (count := lines_of_code(path)) > 250
    }
    assert not long, f"over 250 lines besides docstrings: split what is two ideas: {long}"


def lines_of_code(path):
    text = path.read_text()
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
    strings = [node.body[0] for node in nodes if ast.get_docstring(node)]
    return len(text.splitlines()) - sum(node.end_lineno - node.lineno + 1 for node in strings)
