"""The `tune:` section: which keys of a config are searched, how, and what the best is."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from bnzoo.config.base import PositiveInt, Section
from bnzoo.config.seeds import as_seeds
from bnzoo.errors import nearest

RATE, PLACEMENT = "train.optimizer.learning_rate", "model.placement"
"""The keys that a sweep's tables and figures are made of, where they are searched."""

METRICS = ("val_accuracy", "val_loss", "accuracy", "loss", "seconds")

# Without steps, the share of a range's values that neighbours are apart: 1001 values in all.
CONTINUOUS_STEPS = 1001
MOST_STEPS = 10_000  # values have four digits: more of them would hardly differ


class Objective(Section):
    """What the best trial is best at: a column of `history.csv`, at its best epoch.

    Attributes:
        name: one of `METRICS`.
        direction: `max` or `min`. Never guessed from the name.
    """

    name: str
    direction: Literal["max", "min"]

    @field_validator("name")
    @classmethod
    def _name_is_measured(cls, name: str) -> str:
        if name not in METRICS:
            raise ValueError(
                f"expected a metric of the history, one of {', '.join(METRICS)}, got {name!r}. "
                f"{nearest(name, METRICS)}".rstrip()
            )
        return name


class Range(Section):
    """Numbers from `min` to `max`, both included.

    Attributes:
        min: the smallest value.
        max: the largest value.
        steps: how many values; None searches the whole range, which `grid` cannot.
        scale: `log` has equal ratios between values, `linear` equal differences.
    """

    min: int | float
    max: int | float
    steps: PositiveInt | None = None
    scale: Literal["linear", "log"] = "linear"

    @field_validator("max")
    @classmethod
    def _ends_are_ordered(cls, value: float, info: Any) -> float:
        low = info.data.get("min")
        if low is not None and value <= low:
            raise ValueError(
                f"expected a number above min, got min: {low:g} and max: {value:g}. "
                "Swap them, or set the key itself if it is to have one value."
            )
        return value

    @field_validator("steps")
    @classmethod
    def _steps_hold_both_ends(cls, value: int | None) -> int | None:
        if value == 1:
            raise ValueError(
                "expected at least 2 steps, got 1. min and max are steps themselves; set the key "
                "itself if it is to have one value."
            )
        if value is not None and value > MOST_STEPS:
            raise ValueError(
                f"expected at most {MOST_STEPS:,} steps, got {value:,}. Take fewer, or leave steps "
                "out and let random draw from the whole range."
            )
        return value

    @field_validator("scale")
    @classmethod
    def _ratios_need_positive_ends(cls, value: str, info: Any) -> str:
        low = info.data.get("min")
        if value == "log" and low is not None and low <= 0:
            raise ValueError(
                f"expected a min above 0 with scale: log, got min: {low:g}. Raise min, or set "
                "scale: linear."
            )
        return value


def _as_values(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(
            f"expected a list of values, or a range such as {{min: 1.0e-4, max: 1.0, steps: 7, "
            f"scale: log}}, got {value!r}."
        )
    texts = [repr(item) for item in value]
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice:
        raise ValueError(f"expected each value once, got {twice} twice. Remove one of them.")
    if not value:
        raise ValueError("expected at least one value, got an empty list.")
    return tuple(value)


Values = Annotated[tuple[Any, ...], BeforeValidator(_as_values)]
Searched = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Values, Tag("values")],
    Discriminator(lambda value: "range" if isinstance(value, dict | Range) else "values"),
]


class Tune(Section):
    """A sweep: trials of the same config with other values for a few keys.

    Attributes:
        algorithm: `grid` tries every combination; `random` draws them; `bayesian` draws some and
            then asks a Gaussian process; `hyperband` gives many a few epochs, and the best of them
            `train.epochs`.
        objective: what the best trial is best at.
        space: by the dotted path of a key, its values or its range.
        conditions: by a path of the space, for which values of other paths it is searched; else
            it is left as the config has it.
        executions_per_trial: runs of each trial, with different seeds.
        seeds: their seeds; by default the config's seed and those after it.
        max_trials: the most trials; `random` and `bayesian` need it.
    """

    algorithm: Literal["grid", "random", "bayesian", "hyperband"]
    objective: Objective
    space: dict[str, Searched]
    conditions: dict[str, dict[str, Values]] = Field(default_factory=dict)
    executions_per_trial: PositiveInt = 1
    seeds: tuple[int, ...] | None = None
    max_trials: PositiveInt | None = None

    @field_validator("space", mode="before")
    @classmethod
    def _space_is_not_empty(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not value:
            raise ValueError(
                f"expected at least one key to search, got {value!r}. For example "
                "space: {train.optimizer.learning_rate: {min: 1.0e-4, max: 1.0, scale: log}}."
            )
        return value

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds_are_distinct(cls, value: Any) -> Any:
        return None if value is None else as_seeds(value)

    @model_validator(mode="before")
    @classmethod
    def _seeds_say_how_many(cls, values: Any) -> Any:
        has_seeds = isinstance(values, dict) and isinstance(values.get("seeds"), list | tuple)
        if has_seeds and values.get("executions_per_trial") is None:
            return {**values, "executions_per_trial": max(len(values["seeds"]), 1)}
        return values

    @field_validator("seeds")
    @classmethod
    def _one_seed_each(cls, value: tuple[int, ...] | None, info: Any) -> tuple[int, ...] | None:
        executions = info.data.get("executions_per_trial")
        if value is not None and executions is not None and len(value) != executions:
            raise ValueError(
                f"expected {executions} seeds, as executions_per_trial is {executions}, got "
                f"{list(value)}. Leave one of the two out."
            )
        return value

    @field_validator("max_trials")
    @classmethod
    def _algorithm_needs_an_end(cls, value: int | None, info: Any) -> int | None:
        algorithm = info.data.get("algorithm")
        if algorithm in ("random", "bayesian") and value is None:
            raise ValueError(
                f"expected how many trials {algorithm} makes, got none. For example 20."
            )
        if algorithm == "hyperband" and value is not None:
            raise ValueError(
                f"expected none with hyperband, got {value}. How many trials it makes follows "
                "from train.epochs: lower those, or leave max_trials out."
            )
        return value

    def seeds_from(self, seed: int) -> tuple[int, ...]:
        """Return the seeds of a trial's executions; `seed` is the config's own."""
        return self.seeds or tuple(range(seed, seed + self.executions_per_trial))
