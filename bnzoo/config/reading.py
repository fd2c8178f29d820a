"""YAML 1.2, as people mean it: `3e-4` is a number, `on` is a word, a key is there once."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bnzoo.errors import InputError


class _Constructor(SafeConstructor):
    def check_mapping_key(self, node, key_node, mapping, key, value) -> bool:
        if not isinstance(key, str):
            problem = f"expected a word as key, got {key!r}; quote it"
            raise ConstructorError(None, None, problem, key_node.start_mark)
        return super().check_mapping_key(node, key_node, mapping, key, value)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 1000  # a long text stays on one line
    return yaml


def parse_yaml(text: str) -> Any:
    """Return the plain Python value of a YAML text.

    Raises:
        InputError: the text is no YAML, or a mapping names a key twice.
    """
    try:
        return _yaml().load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise InputError(f"not valid YAML: {error.problem} (line {line})") from None
    except YAMLError as error:
        raise InputError(f"not valid YAML: {' '.join(str(error).split())}") from None


def as_yaml(tree: Any) -> str:
    """Return plain Python values as YAML text, in their own order; nothing for an empty mapping."""
    stream = io.StringIO()
    if tree:
        _yaml().dump(tree, stream)
    return stream.getvalue()


def read_yaml(path: Path) -> dict:
    """Return the mapping that a YAML file holds.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is no YAML, or no mapping.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: expected a readable YAML file in UTF-8, got: {error}. "
            "Name a config file, or the folder of a run, study or sweep."
        ) from None
    except InputError as error:
        raise InputError(f"{path}: {error}.") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected a mapping with the sections data, model and train, "
            f"got {'an empty file' if content is None else type(content).__name__}. "
            "`bnzoo configs` lists examples."
        )
    return content
