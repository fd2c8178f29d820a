"""The variants of a study, and the trials of a sweep: a config with some of its keys changed."""

from bnzoo.config.problems import attempt, check
from bnzoo.config.reading import apply_overrides
from bnzoo.config.schema import BASELINE, Compare, Config, Overrides
from bnzoo.errors import InputError

# A variant, or a trial, changes what is run: not what it is compared with, nor how often.
_FIXED = ("seed", "compare", "tune")


def variant_configs(config: Config, seed: int | None = None) -> dict[str, Config]:
    """Return the configuration of each variant by its name; the baseline comes first.

    Args:
        config: a checked configuration with a `compare` section.
        seed: the seed of a run; None keeps the configuration's own.

    Returns:
        What `bnzoo train` would run with `--set` for the seed and for each key of the variant.
    """
    tree = plain_tree(config, seed)
    return {
        name: resolve(tree, overrides, _where(name))
        for name, overrides in config.compare.overrides().items()
    }


def plain_tree(config: Config, seed: int | None = None) -> dict:
    """Return a configuration as plain mappings for `resolve`, with another seed if one is given.

    Only what was set, not the defaults: an override may choose another model or optimizer, and the
    defaults of the first are unknown keys to the second.
    """
    tree = config.model_dump(mode="json", exclude_unset=True)
    return tree if seed is None else {**tree, "seed": seed}


def variant_problems(tree: dict) -> list[str]:
    """Return every problem of the variants of a configuration, given as a plain mapping."""
    compare, _ = attempt(check, Compare, tree.get("compare"), "compare")
    problems, names = [], {}
    for name, overrides in compare.overrides().items() if compare else ():
        config, found = attempt(resolve, tree, overrides, _where(name))
        problems += found
        first = names.setdefault(config.model_dump_json(), name) if config else name
        if first != name:
            problems.append(
                f"{_where(name)}: expected another config than {first}, got the same. "
                "Leave one of the two out, or change a key."
            )
    return problems


def _where(name: str) -> str:
    return "compare.baseline" if name == BASELINE else f"compare.variants.{name}"


def resolve(tree: dict, overrides: Overrides, source: str) -> Config:
    """Return the checked configuration of one run: of a tree with some keys changed.

    Where one path lies inside another, the shorter is set first: the longer would be lost.

    Args:
        tree: a configuration as plain mappings; its sections `compare` and `tune` are left out.
        overrides: by dotted path, the value that stands there instead.
        source: what to call the overrides in messages.

    Raises:
        InputError: names every problem, one per line.
    """
    tree = {key: value for key, value in tree.items() if key not in ("compare", "tune")}
    problems = []
    for path, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
        if path.partition(".")[0] in _FIXED:
            problems.append(
                f"{source}: {path}: expected another key, as this one is the same for all. Seeds "
                "are listed in compare.seeds and tune.seeds."
            )
            continue
        changed, found = attempt(apply_overrides, tree, [(path, value)], f"{source}: ")
        tree, problems = changed or tree, problems + found
    config, found = attempt(check, Config, tree, source)
    if problems + found:
        raise InputError("\n".join(problems + found))
    return config
