"""What can be wrong with a search space besides its own section: found before anything is run."""

from bnzoo.config.problems import readable
from bnzoo.config.space import Dimension, search_space
from bnzoo.config.space_combinations import combination_problems
from bnzoo.config.space_size import count_combinations, hyperband_starts
from bnzoo.config.train import Train
from bnzoo.config.tune import Range, Tune
from bnzoo.errors import nearest

MOST_TRIALS = 100_000  # of a grid that does not say with max_trials that it may be larger


def space_problems(tree: dict, source: str, known: list[str]) -> list[str]:
    """Return every problem that a sweep has and the configuration itself has not.

    Args:
        tree: the configuration as a plain mapping.
        source: what to call it in messages.
        known: the problems of the configuration itself, as texts.
    """
    tune = readable(Tune, tree.get("tune"))
    if tune is None:
        return []
    problems = _condition_problems(tune)
    if not problems:
        base = {key: value for key, value in tree.items() if key not in ("compare", "tune")}
        space = search_space(base, tune)
        known = [problem.removeprefix(f"{source}: ") for problem in known]
        problems = combination_problems(base, tune, space, known)
        problems += _size_problems(tune, space, base)
    return [f"{source}: {problem}" for problem in problems]


def _condition_problems(tune: Tune) -> list[str]:
    problems = []
    for path, parents in tune.conditions.items():
        where = f"tune.conditions.{path}"
        problems += _unknown(path, tune, where)
        for parent, allowed in parents.items():
            problems += _unknown(parent, tune, where)
            searched = tune.space.get(parent)
            if isinstance(searched, Range):
                problems.append(
                    f"{where}: expected conditions on lists, got one on {parent!r}, which is a "
                    "range. Give it as a list of values."
                )
            elif searched is not None:
                never = [value for value in allowed if value not in searched]
                problems += [
                    f"{where}: expected values that {parent} has, {_listed(searched)}, got "
                    f"{value!r}. It would never be met."
                    for value in never
                ]
    return problems or _circles(tune)


def _unknown(path: str, tune: Tune, where: str) -> list[str]:
    if path in tune.space:
        return []
    hint = nearest(path, tune.space) or f"There are {', '.join(tune.space)}."
    return [f"{where}: expected paths of tune.space, got {path!r}. {hint}"]


def _circles(tune: Tune) -> list[str]:
    met = {path for path in tune.space if not tune.conditions.get(path)}
    while more := {p for p in tune.space if p not in met and set(tune.conditions[p]) <= met}:
        met |= more
    left = [path for path in tune.space if path not in met]
    if not left:
        return []
    return [
        f"tune.conditions: expected no circle, got {' and '.join(left)}, each of which waits for "
        "another. Remove one of the conditions."
    ]


def _size_problems(tune: Tune, space: list[Dimension], base: dict) -> list[str]:
    if tune.algorithm == "grid":
        return _grid_problems(tune, space)
    if tune.algorithm == "hyperband":
        return _hyperband_problems(space, base)
    return []


def _grid_problems(tune: Tune, space: list[Dimension]) -> list[str]:
    problems = [
        f"tune.space.{one.path}: expected steps, as a grid tries every value, got a range without. "
        "Add, for example, steps: 7."
        for one in space
        if one.is_range
    ]
    if problems:
        return problems
    count = count_combinations(space)
    if tune.max_trials is None and count > MOST_TRIALS:
        return [
            f"tune.space: expected at most {MOST_TRIALS:,} combinations in a grid, got {count:,}. "
            "Search fewer values, or set algorithm: random and max_trials."
        ]
    if tune.max_trials is None or count <= tune.max_trials:
        return []
    return [
        f"tune.max_trials: expected at least the {count:,} combinations of the grid, got "
        f"{tune.max_trials}. Raise it, search fewer values, or set algorithm: random."
    ]


def _hyperband_problems(space: list[Dimension], base: dict) -> list[str]:
    problems = [
        f"tune.space.{one.path}: expected no train.epochs with hyperband, which itself decides how "
        "many epochs a trial gets, at most those of the config, got them among what is searched. "
        "Leave them out, or set algorithm: grid."
        for one in space
        if _sets_epochs(one)
    ]
    section = base.get("train")
    epochs = section.get("epochs") if isinstance(section, dict) else None
    epochs = epochs if isinstance(epochs, int) else Train().epochs
    needed, count = hyperband_starts(epochs), count_combinations(space)
    if problems or count >= needed:
        return problems
    return [
        f"tune.space: expected at least {needed} combinations, which hyperband starts with for "
        f"train.epochs: {epochs}, got {count}. Search more values, or set algorithm: grid."
    ]


def _sets_epochs(one: Dimension) -> bool:
    if one.path == "train":
        return any(isinstance(value, dict) and "epochs" in value for value in one.values)
    return one.path == "train.epochs"


def _listed(values: tuple) -> str:
    return ", ".join(map(str, values))
