"""What a run is: the whole tree of a configuration."""

from typing import Annotated

from pydantic import Field, model_validator

from bnzoo.config.base import Section
from bnzoo.config.compare import Compare
from bnzoo.config.data import Data
from bnzoo.config.models import Model
from bnzoo.config.train import Train
from bnzoo.config.tune import Tune
from bnzoo.errors import InputError


class Config(Section):
    """One run: which data, which model, how it is trained, from which seed.

    Or a study of such runs, with a `compare` section, or a sweep, with a `tune` section.
    """

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: Data
    model: Model
    train: Train = Train()
    compare: Compare | None = None
    tune: Tune | None = None

    @model_validator(mode="after")
    def _sections_fit_together(self) -> "Config":
        stopping = self.train.early_stopping
        if stopping and stopping.monitor.startswith("val_") and self.data.validation == "none":
            raise ValueError(
                f"train.early_stopping.monitor: expected loss or accuracy, as data.validation is "
                f"none, got {stopping.monitor!r}. Set data.validation, for example to 0.1."
            )
        objective = self.tune.objective.name if self.tune else "loss"
        if not self.measures(objective):
            raise ValueError(
                f"tune.objective.name: expected a metric that the run has, as data.validation is "
                f"none, got {objective!r}. Set data.validation, for example to 0.1."
            )
        return self

    def measures(self, metric: str) -> bool:
        """Tell whether the history of a run has a metric.

        Args:
            metric: one of `bnzoo.config.tune.METRICS`.
        """
        return not metric.startswith("val_") or self.data.validation != "none"

    def single_run(self) -> "Config":
        """Return the same without study and sweep: the configuration of one run."""
        return self.model_copy(update={"compare": None, "tune": None})

    def study(self) -> "Config":
        """Return the same without a sweep."""
        return self.model_copy(update={"tune": None})

    def sweep(self) -> "Config":
        """Return the same without a study: the configuration of a sweep.

        Raises:
            InputError: there is nothing to search.
        """
        if self.tune is None:
            raise InputError(
                "tune: expected this section with what to search, and it is missing. Add, for "
                "example, tune: {algorithm: grid, objective: {name: val_accuracy, direction: max}, "
                "space: {train.optimizer.learning_rate: [0.001, 0.01, 0.1]}}."
            )
        return self.model_copy(update={"compare": None})
