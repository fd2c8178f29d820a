"""From the `compare:` section to the configuration of each variant."""

from bnzoo.config.compare import BASELINE, Compare, Overrides
from bnzoo.config.overrides import apply_overrides
from bnzoo.config.problems import check, readable
from bnzoo.config.schema import Config
from bnzoo.errors import InputError

_FIXED = {
    "seed": "List the seeds of all variants in compare.seeds.",
    "compare": "A variant changes what is run, not the study.",
    "tune": "A variant changes what is run, not a sweep.",
}


def variant_configs(config: Config, seed: int | None = None) -> dict[str, Config]:
    """Return the configuration of each variant by its name; the baseline comes first.

    Args:
        config: a checked configuration with a `compare` section.
        seed: the seed of a run; None keeps the configuration's own.

    Returns:
        What `bnzoo train` would run with `--set` for the seed and for each key of the variant.
    """
    # Only what was set, not the defaults: an override may choose another model or optimizer, and
    # the defaults of the first are unknown keys to the second.
    tree = config.model_dump(mode="json", exclude_unset=True, exclude={"compare", "tune"})
    if seed is not None:
        tree["seed"] = seed
    return {
        name: resolve(tree, overrides, _where(name), _FIXED)
        for name, overrides in config.compare.overrides().items()
    }


def variant_problems(tree: dict, source: str, known: list[str]) -> list[str]:
    """Return every problem that a variant has and the configuration itself has not.

    Args:
        tree: the configuration as a plain mapping.
        source: what to call it in messages.
        known: the problems of the configuration itself, as texts.
    """
    compare = readable(Compare, tree.get("compare"))
    if compare is None:
        return []
    known = {problem.removeprefix(f"{source}: ") for problem in known}
    base = {key: value for key, value in tree.items() if key not in ("compare", "tune")}
    problems, resolved = [], {}
    for name, overrides in compare.overrides().items():
        where = f"{source}: {_where(name)}"
        try:
            resolved[name] = resolve(base, overrides, where, _FIXED)
        except InputError as error:
            lines = str(error).splitlines()
            problems += [line for line in lines if line.removeprefix(f"{where}: ") not in known]
    return problems + [f"{source}: {line}" for line in _same(resolved)]


def _where(name: str) -> str:
    return "compare.baseline" if name == BASELINE else f"compare.variants.{name}"


def resolve(tree: dict, overrides: Overrides, source: str, fixed: dict[str, str]) -> Config:
    """Return the checked configuration of a tree with some keys changed.

    Where one path lies inside another, the shorter is set first: the longer would be lost.

    Args:
        tree: a configuration as plain mappings.
        overrides: by dotted path, the value that stands there instead.
        source: what to call the overrides in messages.
        fixed: by the first word of a path, why it may not be changed.

    Raises:
        InputError: names every problem, one per line.
    """
    problems = []
    for path, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
        advice = fixed.get(path.partition(".")[0])
        if advice:
            problems.append(f"{path}: expected another key, as this one is fixed. {advice}")
            continue
        if not all(path.split(".")):
            problems.append(f"expected dotted keys such as train.epochs, got {path!r}.")
            continue
        try:
            tree = apply_overrides(tree, [(path, value)], door="")
        except InputError as error:
            problems.append(str(error))
    problems = [f"{source}: {problem}" for problem in problems]
    try:
        config = check(Config, tree, source)
    except InputError as error:
        problems += str(error).splitlines()
    if problems:
        raise InputError("\n".join(problems))
    return config


def _same(resolved: dict[str, Config]) -> list[str]:
    """Name the variants that repeat an earlier one."""
    problems, seen = [], {}
    for name, config in resolved.items():
        first = next((other for other, known in seen.items() if known == config), None)
        if first is None:
            seen[name] = config
        else:
            problems.append(
                f"{_where(name)}: expected another config than {first}, got the same. "
                "Leave one of the two out, or change a key."
            )
    return problems
