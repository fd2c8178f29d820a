"""YAML as people mean it: `3e-4` is a number, `on` is a word, a key stands once."""

import re
from pathlib import Path
from typing import Any

import yaml

from bnzoo.errors import InputError

_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9]+)|[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*"
    r"(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, where `1e-3` is a string and `on` is true; this is YAML 1.2."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:float", "tag:yaml.org,2002:bool")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")
)


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict:
    _merge_first(node)
    seen = set()
    for key_node, _ in node.value:
        key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise _refusal(f"expected a word as key, got {key!r} (line {line}); quote it")
        if key in seen:
            raise _refusal(f"key {key!r} stands twice (line {line}); keep one")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _merge_first(node: yaml.MappingNode) -> None:
    """Put the keys of `<<: *anchor` where they are not given anyway."""
    own = [(key, value) for key, value in node.value if key.tag != "tag:yaml.org,2002:merge"]
    names = [key.value for key, _ in own]
    for key, value in node.value:
        if key.tag == "tag:yaml.org,2002:merge" and isinstance(value, yaml.MappingNode):
            _merge_first(value)
            own += [(name, item) for name, item in value.value if name.value not in names]
    node.value = own


def _refusal(text: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, text, None)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)


def parse_yaml(text: str) -> Any:
    """Return the plain Python value of a YAML text.

    Raises:
        InputError: the text is no YAML, or a mapping names a key twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {' '.join(str(error).split())}") from None


def as_yaml(tree: Any) -> str:
    """Return plain Python values as YAML text, mappings in their own order."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


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
