"""Where a function of the user's own is, and what it takes, without running its file.

A reference is `path/to/file.py:function`, relative to the working directory, or
`package.module:function`.
"""

import ast
import contextlib
import hashlib
import importlib.machinery
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bnzoo.errors import InputError, first_sentence, nearest
from bnzoo.files import user_path

EXAMPLE = "my_models.py:build or package.module:build"
_REFERENCE = re.compile(r"(.+\.py|__main__|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+):([A-Za-z_]\w*)")
INSTALLED = ("keras.", "keras_hub.")
"""Beginnings of references whose text is no part of a run: versions say what it is."""

IN_MEMORY: dict[str, Any] = {}
"""What references stand for that `remember` has made."""


def is_reference(name: str) -> bool:
    """Tell whether a name is a reference, by its form alone."""
    return bool(_REFERENCE.fullmatch(name))


def remember(value: Any, name: str) -> str:
    """Let a reference stand for something in this process, and return it.

    Args:
        value: such as a function of a notebook, or what it would return.
        name: of it, where it has none of its own.
    """
    name = re.sub(r"\W", "", getattr(value, "__name__", name))
    reference = f"{getattr(value, '__module__', None)}:{name}"
    if not callable(value) or not is_reference(reference):
        reference = f"__main__:{name}"
    IN_MEMORY[reference] = value
    return reference


def check(reference: str, offered: Iterable[str] | None, given: Iterable[str], where: str) -> None:
    """Check that a function is there and takes what it will be given.

    Args:
        reference: to the function.
        offered: names of the arguments that bnzoo passes if the function takes them; None leaves
            its arguments to Keras.
        given: names of the arguments that the user asks for.
        where: the key of the config that holds the user's arguments.

    Raises:
        InputError: it is not there, or its arguments are others.
    """
    found = IN_MEMORY.get(reference)
    function = found if reference in IN_MEMORY else _definition(reference)
    if callable(function) and offered is not None:
        arguments(reference, function, dict.fromkeys(offered, ""), dict.fromkeys(given), where)


def arguments(
    reference: str,
    function: Any,
    offered: Mapping[str, Any],
    given: Mapping[str, Any],
    where: str,
) -> dict[str, Any]:
    """Return the arguments of a call: what is offered, known and taken, and all that is given.

    Raises:
        InputError: the function takes others, or needs more.
    """
    parameters = list(inspect.signature(function).parameters.values())
    kinds = inspect.Parameter
    named = {
        one.name: one
        for one in parameters
        if one.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    }
    takes_any = any(one.kind == kinds.VAR_KEYWORD for one in parameters)
    for key in given:
        if key not in named and not takes_any:
            hint = nearest(key, named) or f"It takes {', '.join(named) or 'none'}."
            raise InputError(
                f"{where}.{key}: expected an argument of {reference}, which has none of that name. "
                f"{hint}"
            )
    chosen = {key: offered[key] for key in named if offered.get(key) is not None} | dict(given)
    for key, one in named.items():
        if one.default is one.empty and key not in chosen:
            raise InputError(
                f"{where}: expected {key}, which {reference} needs, got "
                f"{', '.join(chosen) or 'none'}. Set {where}.{key}, or give it a default."
            )
    return chosen


# --- identity ------------------------------------------------------------------------------------


def sources(references: Iterable[str]) -> dict[str, str]:
    """Return the text behind each reference, by file or name; of installed packages none."""
    found = {}
    for reference in references:
        if reference in IN_MEMORY:
            with contextlib.suppress(OSError, TypeError):  # it has none, such as an array
                found[reference] = inspect.getsource(IN_MEMORY[reference])
        elif not reference.startswith(INSTALLED):
            found[reference.rpartition(":")[0]] = read(file_of(reference))
    return found


def digests(references: Iterable[str]) -> dict[str, str]:
    """Return what tells each of the `sources` from another text: 16 digits of its SHA-256."""
    return {name: digest(text) for name, text in sources(references).items()}


def digest(text: str) -> str:
    """Return 16 digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_unchanged(before: Mapping[str, str], references: Iterable[str]) -> None:
    """Refuse to go on with other code than was begun with.

    Args:
        before: the `digests` at the beginning.
        references: to the code.

    Raises:
        InputError: names what has changed.
    """
    now = digests(references) if before else {}
    changed = [name for name, one in before.items() if now.get(name) != one]
    if changed:
        raise InputError(
            f"{', '.join(changed)}: expected the text that the first runs had, got another. Bring "
            "it back and go on with --resume, or start anew in another folder."
        )


# --- reading -------------------------------------------------------------------------------------


def file_of(reference: str) -> Path:
    """Return the file of a reference; of a module without importing the packages above it.

    Raises:
        InputError: there is none.
    """
    home = reference.rpartition(":")[0]
    if home.endswith(".py"):
        file = user_path(home)
        if not file.is_file():
            raise InputError(
                f"{reference}: expected a Python file, found none at {home} in the working "
                f"directory {Path.cwd()}. Check the path, which is relative to that directory."
            )
        return file
    places, found, parts = [str(Path.cwd()), *sys.path], None, home.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        found = importlib.machinery.PathFinder.find_spec(name, places) if places else None
        if found is None:
            raise InputError(
                f"{reference}: expected a module that can be imported, found no {name}. Install "
                f"it, or name a file: {EXAMPLE}."
            )
        places = found.submodule_search_locations
    return Path(found.origin or "")


def read(file: Path) -> str:
    """Return the text of a Python file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: expected a Python file in UTF-8, got: {error}.") from None


def missing(reference: str, file: Path, names: Iterable[str]) -> InputError:
    """Return the error of a file that has other names than that of a reference."""
    name, known = reference.rpartition(":")[2], [one for one in names if not one.startswith("_")]
    hint = nearest(name, known) or f"It has {', '.join(known[:8]) or 'none'}."
    return InputError(f"{reference}: expected {name} in {file}, found none. {hint}")


def _definition(reference: str) -> Any:
    """Return a function that takes what the user's takes; None where that cannot be known."""
    file, name = file_of(reference), reference.rpartition(":")[2]
    try:
        tree = ast.parse(read(file))
    except SyntaxError as error:
        raise InputError(
            f"{file}, line {error.lineno}: SyntaxError: {error.msg}. Mend it."
        ) from None
    except (MemoryError, RecursionError, ValueError) as error:  # nested too deep, or with a NUL
        raise InputError(
            f"{file}: expected Python that can be parsed, got: {type(error).__name__}: "
            f"{first_sentence(error)}. Mend it."
        ) from None
    found = {key: node for node in _top_level(tree.body) for key in _names(node)}
    if name not in found and "*" not in found:
        raise missing(reference, file, found)
    node = found.get(name)
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:  # these may change it
        return None
    for one in ast.walk(node.args):
        if isinstance(one, ast.arg):
            one.annotation = None
    node.args.defaults = [ast.Constant(None) for _ in node.args.defaults]
    node.args.kw_defaults = [one and ast.Constant(None) for one in node.args.kw_defaults]
    return eval(f"lambda {ast.unparse(node.args)}: None")  # names only: nothing of the user's


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            for part in ("body", "orelse", "handlers", "finalbody"):
                yield from _top_level(getattr(node, part, []))


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [target.id for target in targets if isinstance(target, ast.Name)]
