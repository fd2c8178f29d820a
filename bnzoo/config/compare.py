"""The `compare:` section: which variants of a config are compared, and with which seeds."""

import re
from typing import Any

from pydantic import Field, field_validator

from bnzoo.config.base import Section
from bnzoo.config.seeds import as_seeds

BASELINE = "baseline"
_NAME = re.compile(r"[A-Za-z0-9_-]+")

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

    baseline: Overrides = Field(default_factory=dict)
    variants: dict[str, Overrides]
    seeds: tuple[int, ...] = (0, 1, 2)

    def overrides(self) -> dict[str, Overrides]:
        """Return what is changed in each variant by its name; the baseline comes first."""
        return {BASELINE: self.baseline, **self.variants}

    @field_validator("baseline", mode="before")
    @classmethod
    def _baseline_may_be_empty(cls, value: Any) -> Any:
        return {} if value is None else value  # `baseline:` with nothing behind it

    @field_validator("variants", mode="before")
    @classmethod
    def _variants_have_names(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not value:
            raise ValueError(
                f"expected at least one variant, got {value!r}. "
                "For example variants: {before: {model.placement: before}}."
            )
        wrong = [name for name in value if not isinstance(name, str) or not _NAME.fullmatch(name)]
        if wrong:
            raise ValueError(
                f"expected names of letters, digits, _ and -, got {', '.join(map(repr, wrong))}. "
                "Each is the name of a folder; put a number in quotes."
            )
        if BASELINE in value:
            raise ValueError(
                f"expected no variant named {BASELINE!r}, as the baseline is one already. "
                "Move its keys to compare.baseline, or choose another name."
            )
        return value

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds_are_distinct(cls, value: Any) -> Any:
        return as_seeds(value)
