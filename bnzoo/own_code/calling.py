"""Run a file of the user's own, call its functions, and name its line where they fail."""

import contextlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bnzoo.errors import InputError, first_sentence
from bnzoo.own_code.finding import (
    IN_MEMORY,
    INSTALLED,
    arguments,
    digest,
    file_of,
    missing,
    read,
)

_modules: dict[Path, tuple[str, Any]] = {}  # by file: the digest of its text, and the module


def load(reference: str) -> Any:
    """Import the file or module of a reference and return what it names.

    Raises:
        InputError: there is none, or importing it raises: with the file and the line.
    """
    if reference in IN_MEMORY:
        return IN_MEMORY[reference]
    home, _, name = reference.rpartition(":")
    file = file_of(reference)
    with _running(file, reference):
        module = _load_file(file) if home.endswith(".py") else importlib.import_module(home)
        if hasattr(module, name):
            return getattr(module, name)
    raise missing(reference, file, vars(module))


def _load_file(file: Path) -> Any:
    """Run a Python file as a module of its own, once for each text that it has."""
    file, text = file.resolve(), digest(read(file))
    if _modules.get(file, ("", None))[0] != text:
        spec = importlib.util.spec_from_file_location(f"own_code_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # data classes look for their own module
        spec.loader.exec_module(module)
        _modules[file] = text, module
    return _modules[file][1]


def call(reference: str, offered: Mapping[str, Any], given: Mapping[str, Any], where: str) -> Any:
    """Call a function with what it takes of what is offered, and with all that is given.

    Args:
        reference: to the function; of a value in memory, that is returned.
        offered: arguments by name; None is unknown.
        given: the user's own arguments.
        where: the key of the config that holds them.

    Raises:
        InputError: it does not take what is given, or raises: with its file and the line.
    """
    function = load(reference)
    if not callable(function):
        return function
    chosen = arguments(reference, function, offered, given, where)
    with _running(_file_behind(function), reference):
        return function(**chosen)


def _file_behind(value: Any) -> Path:
    """Return the file of a function, a class, or the class of an object."""
    value = inspect.unwrap(value) if inspect.isroutine(value) else value
    with contextlib.suppress(TypeError, OSError):
        is_defined = inspect.isroutine(value) or inspect.isclass(value)
        return Path(inspect.getfile(value if is_defined else type(value))).resolve()
    return Path()


def running(value: Any, reference: str) -> contextlib.AbstractContextManager[None]:
    """Turn what the code of an object, a function or a class raises into one line.

    Args:
        value: made by the user's code.
        reference: to it, for errors that are raised elsewhere.
    """
    return _running(_file_behind(value), reference)


@contextlib.contextmanager
def _running(file: Path, reference: str) -> Iterator[None]:
    """Let a file import its neighbors, and turn what it raises into one line."""
    places = (str(file.resolve().parent), str(Path.cwd()))
    added = [place for place in places if place not in sys.path]
    sys.path[:0] = added
    try:
        yield
    except Exception as error:
        place = None if reference.startswith(INSTALLED) else _place(error, {file.resolve()})
        raise InputError(f"{place or reference}: {_what(error)}") from error
    finally:
        for place in added:
            sys.path.remove(place)


@contextlib.contextmanager
def named(code: Iterable[str | Path]) -> Iterator[None]:
    """Turn what the user's own code raises, wherever it is called, into one line.

    Args:
        code: files, or references to functions whose files may hold layers and losses too.

    Raises:
        InputError: an error went through one of the files: with the file and the line.
    """
    try:
        yield
    except Exception as error:
        files = {
            one.resolve() if isinstance(one, Path) else _file_behind(load(one))
            for one in code
            if isinstance(one, Path) or not one.startswith(INSTALLED)
        }
        place = _place(error, files)
        if place is None or str(error).startswith(place):  # said already
            raise
        raise InputError(f"{place}: {_what(error)}") from error


def _place(error: BaseException | None, files: set[Path]) -> str | None:
    """Return file and line of the last frame, or of the syntax error, in one of the files."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}, line {error.lineno}"
    while error is not None:
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if Path(frame.filename).resolve() in files:
                return f"{_shown(frame.filename)}, line {frame.lineno}"
        error = error.__cause__ or error.__context__
    return None


def _shown(file: str) -> Path:
    path = Path(file).resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _what(error: Exception) -> str:
    if isinstance(error, InputError):
        return f"an error in {error}"
    return f"{type(error).__name__}: {first_sentence(error)}."


def objects(references: Iterable[str]) -> dict[str, Any]:
    """Return the classes and functions that the files of references define, for loading models."""
    found = {}
    for reference in references:
        value = load(reference)
        if callable(value) and not reference.startswith(INSTALLED):
            value = value if hasattr(value, "__name__") else type(value)
            found |= _defined_in(inspect.getmodule(value)) | {value.__name__: value}
    return found


def objects_of(file: Path) -> dict[str, Any]:
    """Return the classes and functions that a file defines, by name; it is run.

    Raises:
        InputError: it raises, with its line.
    """
    with _running(file, str(file)):
        return _defined_in(_load_file(file))


def _defined_in(module: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    }
