"""The `tune:` section: which keys of a config are searched, how, and what the best is."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from bnzoo.config.section import PositiveInt, Section, Seeds, each_once, whole
from bnzoo.errors import nearest

RATE, PLACEMENT = "train.optimizer.learning_rate", "model.placement"
"""The keys that a sweep's tables and figures are made of, where they are searched."""

CONTINUOUS_STEPS = 1001  # values of a range without steps
MOST_STEPS = 10_000  # values have four digits: more of them would hardly differ


class Objective(Section):
    """What the best trial is best at: a column of `history.csv`, at its best epoch.

    Attributes:
        name: the column: loss or accuracy, of the validation with `val_`; `seconds`; or one of the
            `train.metrics`.
        direction: whether more or less is better. Never guessed from the name.
    """

    name: str
    direction: Literal["max", "min"]


class Range(Section):
    """Numbers from `min` to `max`, both included.

    Attributes:
        min: the smallest value.
        max: the largest value.
        steps: how many values; null searches the whole range, which `grid` cannot.
        scale: `log` has equal ratios between values, `linear` equal differences.
    """

    min: int | float
    max: int | float
    steps: Annotated[int, Field(ge=2, le=MOST_STEPS)] | None = None
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _ends_fit(self) -> Self:
        if self.max <= self.min:
            raise ValueError(
                f"expected max above min, got min: {self.min:g} and max: {self.max:g}. "
                "Swap them, or set the key itself if it is to have one value."
            )
        if self.scale == "log" and self.min <= 0:
            raise ValueError(
                f"expected a min above 0 with scale: log, got min: {self.min:g}. Raise min, or "
                "set scale: linear."
            )
        return self


Values = Annotated[
    tuple[Any, ...],
    Field(min_length=1),
    whole(
        "a list of at least one value, or a range such as {min: 1.0e-4, max: 1.0, steps: 7, "
        "scale: log}",
        "For example [0.001, 0.01].",
    ),
    each_once("value"),
]
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
        objective: what the best trial is best at; null is the highest `val_accuracy`, or the lowest
            `val_loss` where no accuracy is measured.
        space: by the dotted path of a key, its values or its range.
        conditions: by a path of the space, for which values of other paths it is searched; else
            it is left as the config has it.
        executions_per_trial: runs of each trial, with different seeds.
        seeds: their seeds; by default the config's seed and those after it.
        max_trials: the most trials; `random` and `bayesian` need it, and `grid` for more than
            100,000.
    """

    algorithm: Literal["grid", "random", "bayesian", "hyperband"]
    objective: Objective | None = None
    space: dict[str, Searched] = Field(min_length=1)
    conditions: dict[str, dict[str, Values]] = Field(default_factory=dict)
    executions_per_trial: PositiveInt = 1
    seeds: Seeds | None = None
    max_trials: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _seeds_say_how_many(cls, values: Any) -> Any:
        has_seeds = isinstance(values, dict) and isinstance(values.get("seeds"), list | tuple)
        if has_seeds and values.get("executions_per_trial") is None:
            return {**values, "executions_per_trial": max(len(values["seeds"]), 1)}
        return values

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        algorithm, trials, executions = self.algorithm, self.max_trials, self.executions_per_trial
        if self.seeds is not None and len(self.seeds) != executions:
            raise ValueError(
                f"seeds: expected {executions} seeds, as executions_per_trial is {executions}, got "
                f"{list(self.seeds)}. Leave one of the two out."
            )
        if algorithm in ("random", "bayesian") and trials is None:
            raise ValueError(
                f"max_trials: expected how many trials {algorithm} makes, got none. For example 20."
            )
        if algorithm == "hyperband" and trials is not None:
            raise ValueError(
                f"max_trials: expected none with hyperband, got {trials}. How many trials it makes "
                "follows from train.epochs: lower those, or leave max_trials out."
            )
        return self

    @model_validator(mode="after")
    def _conditions_can_be_met(self) -> Self:
        for path, parents in self.conditions.items():
            for key in (path, *parents):
                if key not in self.space:
                    hint = nearest(key, self.space) or f"There are {', '.join(self.space)}."
                    raise ValueError(
                        f"conditions.{path}: expected paths of tune.space, got {key!r}. {hint}"
                    )
            for parent, allowed in parents.items():
                listed = () if isinstance(self.space[parent], Range) else self.space[parent]
                for value in allowed:
                    if value not in listed:
                        hint = nearest(value, map(str, listed)) or "It would never be met."
                        raise ValueError(
                            f"conditions.{path}: expected values that tune.space lists for "
                            f"{parent}, got {value!r}. {hint}"
                        )
        circle = [path for path in self.space if path not in self.search_order()]
        if circle:
            raise ValueError(
                f"conditions: expected no circle, got {' and '.join(circle)}, each of which waits "
                "for another. Remove one of the conditions."
            )
        return self

    def search_order(self) -> list[str]:
        """Return the keys of the space, each after those that its conditions name.

        Keys whose conditions wait for each other in a circle are left out.
        """
        ordered: list[str] = []
        while ready := [
            path
            for path in self.space
            if path not in ordered and set(self.conditions.get(path, ())) <= set(ordered)
        ]:
            ordered.append(ready[0])
        return ordered

    def seeds_from(self, seed: int) -> tuple[int, ...]:
        """Return the seeds of a trial's executions; `seed` is the config's own."""
        return self.seeds or tuple(range(seed, seed + self.executions_per_trial))
