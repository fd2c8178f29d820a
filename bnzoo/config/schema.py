"""What a run is: the whole tree of a configuration, and the variants of a study."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from bnzoo.config.claim import NUMBERS, Claim
from bnzoo.config.data import Data
from bnzoo.config.models import Model
from bnzoo.config.own import DATA_ARGUMENTS, OwnModel, function_problems
from bnzoo.config.section import Section, Seed, Seeds, named
from bnzoo.config.study import Study
from bnzoo.config.train import Train
from bnzoo.config.tune import Objective, Tune
from bnzoo.errors import InputError, nearest
from bnzoo.own_code import is_reference

BASELINE = "baseline"
_EXAMPLES = {
    "compare": "{baseline: {model.placement: none}, variants: {before: {model.placement: before}}, "
    "seeds: [0, 1, 2]}",
    "tune": "{algorithm: grid, objective: {name: val_accuracy, direction: max}, "
    "space: {train.optimizer.learning_rate: [0.001, 0.01, 0.1]}}",
}
FolderName = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")]

# Dotted path into the config -> the value that stands there in a variant.
Overrides = dict[str, Any]


class Compare(Section):
    """The variants of a study. Each is the whole config with a few keys changed, as by `--set`.

    Attributes:
        baseline: what is changed for the baseline, against which every variant is measured; by
            default nothing. Or the name of one of the variants, which then is the baseline.
        variants: what is changed for each variant, by its name. Where all names, the baseline's
            too, end in an underscore and a number, as `before_0` and `before_1e-2`, the report of
            a study with a claim or with many variants draws the results along it.
        seeds: the seed of each run of a variant. They are the same for all variants, so that
            differences are taken seed by seed; three is the least that shows a spread.
        study: what is watched during the runs: its name, or a mapping with its name and parameters;
            null is nothing, the plain comparison.
        claim: what a paper says about this, and what must come out if it holds; the study then ends
            with whether it does.
    """

    baseline: Overrides | FolderName | None = Field(default_factory=dict)
    variants: dict[FolderName, Overrides] = Field(min_length=1)
    seeds: Seeds = (0, 1, 2)
    study: Annotated[Study, named(None, Study)] | None = None
    claim: Claim | None = None

    @property
    def baseline_name(self) -> str:
        """What the baseline is called."""
        return self.baseline if isinstance(self.baseline, str) else BASELINE

    def overrides(self) -> dict[str, Overrides]:
        """Return what is changed in each variant by its name; the baseline comes first."""
        name = self.baseline_name
        return {name: self.variants.get(name, self.baseline or {}), **self.variants}

    @model_validator(mode="after")
    def _named_variants_exist(self) -> "Compare":
        if isinstance(self.baseline, str) and self.baseline not in self.variants:
            raise ValueError(
                "baseline: expected the name of a variant, or a mapping of keys, got "
                f"{self.baseline!r}. {nearest(self.baseline, self.variants)}".rstrip()
            )
        if self.claim:
            numbers = [*NUMBERS, *(self.study.numbers if self.study else ())]
            self.claim.check_names(list(self.overrides()), numbers)
        return self

    @field_validator("variants")
    @classmethod
    def _baseline_is_none_of_them(cls, value: dict[str, Overrides]) -> dict[str, Overrides]:
        if BASELINE in value:
            raise ValueError(
                f"expected no variant named {BASELINE!r}, as the baseline is one already. "
                "Move its keys to compare.baseline, or choose another name."
            )
        return value


class Config(Section):
    """One run: which data, which model, how it is trained, from which seed.

    Or a study of such runs, with a `compare` section, or a sweep, with a `tune` section.

    Attributes:
        seed: of weights, of the validation split, and of the order of the examples.
        data: which examples, and in what form.
        model: which network.
        train: how it is trained.
        compare: variants for `bnzoo compare`.
        tune: keys to search for `bnzoo tune`.
    """

    seed: Seed = 0
    data: Data
    model: Model
    train: Train = Train()
    compare: Compare | None = None
    tune: Tune | None = None

    @model_validator(mode="after")
    def _sections_fit_together(self) -> "Config":
        known = self.data.known_shape()
        if known:
            self.check_data(*known)
        stopping = self.train.early_stopping
        if stopping and stopping.monitor.startswith("val_") and self.data.validation == "none":
            raise ValueError(
                f"train.early_stopping.monitor: expected loss or accuracy, as data.validation is "
                f"none, got {stopping.monitor!r}. Set data.validation, for example to 0.1."
            )
        if stopping and stopping.monitor.endswith("accuracy") and not self._has_accuracy:
            raise ValueError(
                "train.early_stopping.monitor: expected loss or val_loss, as train.metrics has no "
                f"accuracy, got {stopping.monitor!r}. Choose one of them, or add the metric."
            )
        return self

    @property
    def _has_accuracy(self) -> bool:
        return self.train.main_metric == "accuracy"

    def own_functions(self) -> list[str]:
        """Return the references to functions of the user's own, the model's first."""
        model = [self.model.name] if isinstance(self.model, OwnModel) else []
        data = [self.data.name] if self.data.is_own else []
        return [*model, *data, *filter(is_reference, self.train.functions())]

    def function_problems(self) -> Iterator[str]:
        """Yield what is wrong with functions of the user's own, without running their files."""
        if isinstance(self.model, OwnModel):
            yield from self.model.problems()
        if self.data.is_own:
            name, params = self.data.name, self.data.params
            yield from function_problems(name, DATA_ARGUMENTS, params, "data.params")
        for name in filter(is_reference, self.train.functions()):
            yield from function_problems(name, None, {}, "train.loss")

    def check_data(self, raw: tuple[int | None, ...], classes: int | None) -> None:
        """Refuse data that the model cannot take, as far as it is known.

        Args:
            raw: (height, width, channels) of the images, `None` where a size is not known.
            classes: how many the data has, or `None`.

        Raises:
            InputError: says what the model takes instead.
        """
        shape, fewest = self.data.input_shape(raw), self.data.min_length
        if fewest and shape[0] is not None and fewest > shape[0]:
            raise InputError(
                f"data.min_length: expected at most the {shape[0]} steps of {self.data.name}, got "
                f"{fewest}. Lower it."
            )
        try:
            self.model.check_axes(shape)
            if None not in shape:
                self.model.resolved(shape, classes)
        except InputError as error:
            raise InputError(f"model: {error}") from None

    def single_run(self) -> "Config":
        """Return the same without study and sweep: the configuration of one run."""
        return self.model_copy(update={"compare": None, "tune": None})

    def study(self) -> "Config":
        """Return the same without a sweep: the configuration of a study.

        Raises:
            InputError: there is nothing to compare, or its runs are not of one machine each.
        """
        return self._with("compare").model_copy(update={"tune": None})

    def sweep(self) -> "Config":
        """Return the same without a study: the configuration of a sweep.

        Raises:
            InputError: there is nothing to search, or its runs are not of one machine each.
        """
        tune = self._with("tune").tune
        if tune.objective is None:
            tune = tune.model_copy(update={"objective": self.usual_objective()})
        return self.model_copy(update={"compare": None, "tune": tune})

    def usual_objective(self) -> Objective:
        """Return what a sweep's best trial is best at where its section does not say it."""
        part = "" if self.data.validation == "none" else "val_"
        name, direction = ("accuracy", "max") if self._has_accuracy else ("loss", "min")
        return Objective(name=f"{part}{name}", direction=direction)

    def _with(self, section: str) -> "Config":
        if self.train.distribute == "multi_worker":
            raise InputError(
                f"train.distribute: expected none or mirrored for {section}, as its machines take "
                "whole runs each (bnzoo/training/README.md), got multi_worker. Set one of them."
            )
        if getattr(self, section) is None:
            raise InputError(
                f"{section}: expected this section with what to {section}, and it is missing. Add, "
                f"for example, {section}: {_EXAMPLES[section]}."
            )
        return self
