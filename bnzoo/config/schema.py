"""What a run is: the whole tree of a configuration."""

from typing import Annotated

from pydantic import Field, model_validator

from bnzoo.config.base import Section
from bnzoo.config.compare import Compare
from bnzoo.config.data import Data
from bnzoo.config.models import Model
from bnzoo.config.train import Train


class Config(Section):
    """One run: which data, which model, how it is trained, from which seed. Or a study of such."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: Data
    model: Model
    train: Train = Train()
    compare: Compare | None = None

    @model_validator(mode="after")
    def _sections_fit_together(self) -> "Config":
        stopping = self.train.early_stopping
        if stopping and stopping.monitor.startswith("val_") and self.data.validation == "none":
            raise ValueError(
                f"train.early_stopping.monitor: expected loss or accuracy, as data.validation is "
                f"none, got {stopping.monitor!r}. Set data.validation, for example to 0.1."
            )
        return self

    def single_run(self) -> "Config":
        """Return the same without what makes it a study: the configuration of one run."""
        return self.model_copy(update={"compare": None})
