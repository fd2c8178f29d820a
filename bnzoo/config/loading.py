"""From a YAML file and overrides to a checked configuration, and back to YAML."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from bnzoo.config.problems import attempt, check
from bnzoo.config.reading import apply_overrides, as_yaml, parse_override, read_yaml
from bnzoo.config.schema import Config
from bnzoo.config.space import space_problems
from bnzoo.config.variants import variant_problems
from bnzoo.errors import InputError, nearest

_PACKAGE = Path(__file__).parent.parent
# In the wheel they lie inside the package; in a checkout, at the top of the repository.
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


def starter_configs() -> dict[str, Path]:
    """Return the file of each starter configuration by name, sorted; those of claims come last."""
    files = [*sorted(_starters().glob("*.yaml")), *sorted(claims_folder().glob("*.yaml"))]
    return {path.stem: path for path in files}


def claims_folder() -> Path:
    """Return the folder of the claims of papers: a config each, and beside it what was measured."""
    return _starters() / "claims"


def _starters() -> Path:
    return next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])


def starter_text(name: str) -> str:
    """Return the text of one starter configuration.

    Raises:
        InputError: there is none of that name.
    """
    known = starter_configs()
    if name not in known:
        raise InputError(
            f"No starter config named {name!r}; expected one of {', '.join(known)}. "
            f"{nearest(name, known)}".rstrip()
        )
    return known[name].read_text(encoding="utf-8")


def starter_summary(path: Path) -> str:
    """Return what a starter is about: its first comment line."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read and check a configuration.

    Args:
        path: a YAML file; or the folder of a run, study or sweep, whose `config.yaml` is read; or,
            where there is no such file, the name of a starter configuration.
        overrides: texts `"dotted.key=value"`, applied before the check.

    Raises:
        InputError: the file cannot be read, or anything in it is wrong. All problems are named,
            one per line, each with its path.
    """
    tree = apply_overrides(_read(Path(path)), [parse_override(text) for text in overrides])
    return validate(tree, source=str(path))


def _read(path: Path) -> dict:
    if (path / "config.yaml").is_file():
        # As it was before the defaults were written into it: a variant, or --set, may choose
        # another optimizer, to which those of the first are unknown keys.
        return load_resolved(path / "config.yaml").model_dump(mode="json", exclude_defaults=True)
    starters = starter_configs()
    try:
        return read_yaml(path if path.exists() else starters.get(str(path), path))
    except FileNotFoundError:
        hint = f"{nearest(path.stem, starters)} `bnzoo configs` lists starter configs, and".strip()
        raise InputError(
            f"{path}: no such file. {hint} `bnzoo configs NAME > {path}` writes one."
        ) from None


def validate(tree: dict, source: str) -> Config:
    """Check a plain mapping.

    Args:
        tree: the mapping.
        source: what to call it in messages, usually the file's name.

    Raises:
        InputError: as `load_config`.
    """
    config, problems = attempt(check, Config, tree, source)
    problems += [f"{source}: {line}" for line in (config.function_problems() if config else ())]
    # A problem of the config is one of each of its variants and trials too: it is said once.
    own = tuple(problem.removeprefix(source) for problem in problems)
    found = variant_problems(tree) + space_problems(tree)
    problems += [f"{source}: {line}" for line in found if not line.endswith(own)]
    if problems:
        raise InputError("\n".join(problems))
    return config


def load_resolved(path: str | Path) -> Config:
    """Read a configuration that `dump_config` wrote.

    The variants of a study were checked before it was written; they are not applied again, as
    all defaults are written there (see `variant_configs`).

    Raises:
        InputError: the file cannot be read, or was changed into something that is no config.
    """
    if Path(path).is_fifo():  # nobody may ever write to it
        raise InputError(f"{path}: expected a YAML file, got a pipe. Bring the file back.")
    tree = read_yaml(Path(path))
    with contextlib.suppress(KeyError, TypeError):
        # Written before runs could be distributed: then it was the default, and said nothing.
        if (
            "distribute" not in tree["train"]
            and tree["model"]["batch_norm"]["synchronized"] is False
        ):
            tree["model"]["batch_norm"]["synchronized"] = None
    return check(Config, tree, str(path))


def dump_config(config: Config) -> str:
    """Return the resolved configuration as YAML that `load_config` reads back."""
    return as_yaml(config.model_dump(mode="json"))


def differences(before: Config, after: Config) -> list[str]:
    """Name what differs between two configurations, one dotted key each.

    Returns:
        Texts like `"model.placement: none there, before here"`.
    """
    left, right = flat(before.model_dump(mode="json")), flat(after.model_dump(mode="json"))
    pairs = {key: (left.get(key, "absent"), right.get(key, "absent")) for key in {**left, **right}}
    return [f"{key}: {old} there, {new} here" for key, (old, new) in pairs.items() if old != new]


def flat(tree: dict, prefix: str = "") -> dict[str, object]:
    """Return the values of nested mappings by their dotted paths."""
    found = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        found |= flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return found
