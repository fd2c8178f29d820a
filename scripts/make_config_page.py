"""Print `configs/README.md`: every key of a config, from the schemas that check it.

python scripts/make_config_page.py > configs/README.md
"""

import json
from collections.abc import Iterator

from bnzoo.config import Config

OPENING = """# Every key of a config

<!-- Made by scripts/make_config_page.py from the schemas in bnzoo/config. Do not edit. -->

A config is a YAML file with the sections `data`, `model` and `train`, and, for studies and sweeps,
`compare` and `tune`. It holds only what differs from the defaults below.

```console
$ bnzoo configs quickstart > mine.yaml
$ bnzoo check mine.yaml --set train.epochs=1 --set seed=1
1 config checked, no problems.
$ bnzoo train mine.yaml --set train.epochs=1 --set seed=1 | tail -1
  next           bnzoo export runs/mine --out served/mine
$ bnzoo configs --schema > bnzoo.schema.json
```

`bnzoo configs` lists the starter configs. A starter's name stands for its file
(`bnzoo train quickstart`), and a folder for the config in it (`bnzoo train runs/mine`).

A key is named by its path from the top: `train.optimizer.learning_rate`. `--set`,
`compare.variants` and `tune.space` take the same paths. For an editor, begin the config with
`# yaml-language-server: $schema=bnzoo.schema.json`.
"""
TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "object": "mapping",
}
LIMITS = {
    "exclusiveMinimum": "above {}",
    "minimum": "from {}",
    "exclusiveMaximum": "below {}",
    "maximum": "up to {}",
}


def alternatives(key: dict) -> list[dict]:
    """Return the schemas of which one must hold for the value of a key."""
    return key.get("anyOf") or key.get("oneOf") or [key]


def kind(key: dict) -> str:
    """Name what YAML has for a key: a number, a list, a mapping."""
    names = []
    for one in alternatives(key):
        if one.get("type") == "array":
            items = one.get("items") or one.get("prefixItems", [{}])[0]
            names.append(f"list of {kind(items)}s" if kind(items) in TYPES.values() else "list")
        elif set(one) <= {"default", "description", "title"}:
            names.append("anything")
        else:
            names.append(TYPES[one.get("type", "string" if "enum" in one else "object")])
    if "number" in names and "whole number" in names:
        names.remove("whole number")
    return " or ".join(dict.fromkeys(names))


def allowed(key: dict) -> str:
    """Name the words and the range that a key takes; nothing where its type says all."""
    found = []
    for one in alternatives(key):
        words = one.get("enum") or ([one["const"]] if "const" in one else [])
        found += [f"`{word}`" for word in words]
        limits = [text.format(f"{one[name]:,}") for name, text in LIMITS.items() if name in one]
        found += [", ".join(limits)] if limits else []
        if one.get("type") == "array":
            found += [allowed(one.get("items") or one["prefixItems"][0])]
    return "; ".join(filter(None, found))


def default(key: dict, is_required: bool) -> str:
    """Return the default as YAML has it; that of a section is its own keys' defaults."""
    if is_required:
        return "required"
    value = key.get("default", {})
    if isinstance(value, dict):
        return f"`{value['name']}`" if "name" in value else ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def table(section: dict, names: list[str]) -> Iterator[str]:
    """Yield the lines of the table of some keys of a section."""
    yield "| key | type | default | allowed | meaning |"
    yield "|---|---|---|---|---|"
    for name in names:
        key = section["properties"][name]
        value = default(key, name in section.get("required", []))
        text = key["description"][0].upper() + key["description"][1:]
        yield f"| `{name}` | {kind(key)} | {value} | {allowed(key)} | {text} |".replace("  ", " ")


def references(key: dict) -> list[str]:
    """Return the names of the sections that a key's value may be, or hold."""
    if "$ref" in key:
        return [key["$ref"].rpartition("/")[2]]
    inside = [*key.get("anyOf", []), *key.get("oneOf", [])]
    inside += [part for name in ("items", "additionalProperties") if (part := key.get(name))]
    return [found for part in inside if isinstance(part, dict) for found in references(part)]


def word(section: dict) -> str:
    """Return the name that chooses a section; one without is for functions of the user's own."""
    return section["properties"]["name"].get("const", "<file.py>:<function>")


def chapters(path: str, sections: list[dict], schemas: dict) -> Iterator[str]:
    """Yield the lines on a section, or on the sections of which its name chooses one."""
    alike = [one for one in sections if len(sections) == 1 or "const" in one["properties"]["name"]]
    usual = alike[-1]  # what others have in its place is in their own tables
    keys = usual["properties"]
    common = [name for name in keys if all(name in one["properties"] for one in alike)]
    yield f"\n## {f'`{path}`' if path else 'The whole file'}\n"
    if len(sections) == 1:
        yield f"{sections[0]['description']}.\n"
    else:
        words = [f"`{word(one)}`" for one in sections]
        yield f"`name` is one of {', '.join(words)}.\n"
        common.remove("name")
    if common:
        yield from table(usual, common)
    for one in sections if len(sections) > 1 else ():
        yield f"\n### `{path}.name: {word(one)}`\n\n{one['description']}.\n"
        shown = {name: keys[name] for name in common} | {"name": one["properties"]["name"]}
        own = [name for name, key in one["properties"].items() if key != shown.get(name)]
        if own:
            yield from table(one, own)
    for name, key in keys.items():
        parts = [schemas[part] for part in references(key)]
        if parts:
            inside = f"{path}.{name}.<key>" if "additionalProperties" in key else f"{path}.{name}"
            yield from chapters(inside.strip("."), parts, schemas)


def page() -> str:
    """Return the whole page."""
    schema = Config.model_json_schema()
    return "\n".join([OPENING.rstrip(), *chapters("", [schema], schema["$defs"])]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
