"""`bnzoo.compare` and `bnzoo.tune`: studies and sweeps of functions and data of this process."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bnzoo import own_code
from bnzoo.config import Data, validate
from bnzoo.config.tune import PLACEMENT, Tune
from bnzoo.errors import InputError
from bnzoo.runs import StudyFolder, SweepFolder

PLACEMENTS = ("none", "before", "after")


def compare(
    build: Callable,
    data: Any,
    variants: Mapping[str, Mapping[str, Any]],
    seeds: int | Sequence[int] = 3,
    epochs: int = 5,
    out: str | Path = "runs/compare",
    announce: Callable[[str], None] = print,
    **settings: Any,
) -> dict[str, Any]:
    """Compare variants of one's own model over several seeds, as `bnzoo compare` does.

    Keras' global state is cleared before each run: save models of this process first. Calling it
    again with the same `out` goes on where it stopped.

    Args:
        build: returns a `keras.Model`; called with a variant's arguments, and with those of
            `input_shape`, `classes`, `placement` and `batch_norm` that it takes.
        data: what a function of `data.name` returns: one (x, y), or a dict of them; or the
            function.
        variants: by name, the arguments of `build`, which are numbers, texts, lists or mappings.
            The first is the baseline, and its folder and its lines are called so.
        seeds: how many, from 0; or which.
        epochs: passes over the training data.
        out: the study's folder.
        announce: called with lines on what happens.
        **settings: keys of the sections `data` and `train` of a config, such as `batch_size` and
            `optimizer`; `loss` and `metrics` may be functions.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError: on what does not fit together, and where `out` holds something else.
    """
    named = {name: _changes(changes, "variants") for name, changes in variants.items()}
    if len(named) < 2:
        raise InputError(
            f"variants: expected at least two, the baseline first, got {len(named)}. For example "
            '{"none": {"placement": "none"}, "before": {"placement": "before"}}.'
        )
    baseline, *others = named
    section = {
        "baseline": named[baseline],
        "variants": {name: named[name] for name in others},
        "seeds": _listed(seeds),
    }
    tree = _tree(build, data, settings | {"epochs": epochs}) | {"compare": section}
    config = validate(tree, "bnzoo.compare")
    from bnzoo.studies import compare as run

    return run(
        config,
        out,
        resume=StudyFolder(out).config_file.exists(),
        announce=announce,
        begin_run=lambda position, total, label: announce(f"run {position}/{total} {label}"),
        command=f"bnzoo.compare(..., out={str(out)!r})",
    )


def tune(
    build: Callable,
    data: Any,
    space: Mapping[str, Any],
    algorithm: str = "grid",
    objective: Mapping[str, str] | None = None,
    epochs: int = 5,
    out: str | Path = "runs/tune",
    announce: Callable[[str], None] = print,
    **settings: Any,
) -> dict[str, Any]:
    """Search arguments of one's own model, or keys of its training, as `bnzoo tune` does.

    Args:
        build: as of `compare`.
        data: as of `compare`.
        space: by name of an argument of `build`, or dotted path of a key such as
            `train.optimizer`, its values or its range, as in a config.
        algorithm: `grid`, `random`, `bayesian` or `hyperband`.
        objective: `{"name": ..., "direction": "max" or "min"}`; None is the highest accuracy on the
            validation data, or the lowest loss where no accuracy is measured.
        epochs: passes over the training data.
        out: the sweep's folder.
        announce: called with lines on what happens.
        **settings: as of `compare`, and keys of the section `tune`, such as `max_trials`.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError: as `compare`.
    """
    section = {key: settings.pop(key) for key in list(settings) if key in Tune.model_fields}
    section |= {"algorithm": algorithm, "space": _changes(space, "space"), "objective": objective}
    tree = _tree(build, data, settings | {"epochs": epochs}) | {"tune": section}
    config = validate(tree, "bnzoo.tune").sweep()
    from bnzoo.tuning.sweep import Hooks
    from bnzoo.tuning.sweep import tune as run
    from bnzoo.tuning.trials import score_text

    def end_trial(trial: Any, score: float) -> None:
        announce(f"{trial.name}  {score_text(score, config.tune.objective)}")

    return run(
        config,
        out,
        resume=SweepFolder(out).config_file.exists(),
        hooks=Hooks(log=announce, end_trial=end_trial),
        command=f"bnzoo.tune(..., out={str(out)!r})",
    )


def _listed(seeds: int | Sequence[int]) -> list[int]:
    return list(range(seeds) if isinstance(seeds, int) else seeds)


def _tree(build: Callable, data: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the sections that studies and sweeps share, with references to what is in memory."""
    train = {key: value for key, value in settings.items() if key not in Data.model_fields}
    train |= {key: _remembered(train[key]) for key in ("loss", "metrics") if key in train}
    return {
        "data": {
            "name": own_code.remember(data, "data"),
            **{key: value for key, value in settings.items() if key in Data.model_fields},
        },
        "model": {"name": own_code.remember(build, "build")},
        "train": train,
    }


def _remembered(value: Any) -> Any:
    """Replace functions by references, also inside lists and mappings."""
    if isinstance(value, Mapping):
        return {key: _remembered(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_remembered(one) for one in value]
    return own_code.remember(value, "function") if callable(value) else value


def _changes(arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return arguments of `build` as paths into the config; paths as they are."""
    try:
        json.dumps(arguments)
    except (TypeError, ValueError):
        raise InputError(
            f"{where}: expected numbers, texts, lists and mappings, which are written down with "
            f"the results, got {arguments!r}. Let build choose by a name."
        ) from None
    return {_path(key, value): value for key, value in arguments.items()}


def _path(key: str, value: Any) -> str:
    values = value if isinstance(value, tuple | list) else [value]
    is_placement = key == "placement" and all(one in PLACEMENTS for one in values)
    return key if "." in key else PLACEMENT if is_placement else f"model.params.{key}"
