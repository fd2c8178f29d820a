"""What a run is: the whole tree of a configuration, and the variants of a study."""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from bnzoo.config.data import Data
from bnzoo.config.models import Model
from bnzoo.config.section import Section, Seed, Seeds
from bnzoo.config.train import Train
from bnzoo.config.tune import Tune
from bnzoo.errors import InputError

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
            default nothing.
        variants: what is changed for each variant, by its name.
        seeds: the seed of each run of a variant. They are the same for all variants, so that
            differences are taken seed by seed; three is the least that shows a spread.
    """

    baseline: Overrides | None = Field(default_factory=dict)
    variants: dict[FolderName, Overrides] = Field(min_length=1)
    seeds: Seeds = (0, 1, 2)

    def overrides(self) -> dict[str, Overrides]:
        """Return what is changed in each variant by its name; the baseline comes first."""
        return {BASELINE: self.baseline or {}, **self.variants}

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
        return self

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
            InputError: there is nothing to compare.
        """
        return self._with("compare").model_copy(update={"tune": None})

    def sweep(self) -> "Config":
        """Return the same without a study: the configuration of a sweep.

        Raises:
            InputError: there is nothing to search.
        """
        return self._with("tune").model_copy(update={"compare": None})

    def _with(self, section: str) -> "Config":
        if getattr(self, section) is None:
            raise InputError(
                f"{section}: expected this section with what to {section}, and it is missing. Add, "
                f"for example, {section}: {_EXAMPLES[section]}."
            )
        return self
