"""What `summary.json` must hold for its readers: it may be damaged, or come from somebody else."""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bnzoo.config.section import NonNegativeInt, PositiveInt

MAX_PIXELS = 2**26
"""Of the images of a run: a summary that says more would have gigabytes of memory taken."""

Row = dict[str, float | None]


class _Part(BaseModel):
    """What is read of a mapping; what else it holds, of a later version say, is left aside."""

    model_config = ConfigDict(strict=True, extra="allow")


def _inside(folder: str) -> str:
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or "\0" in folder:
        raise ValueError(f"expected a folder inside this one, got {folder!r}.")
    return folder


FolderInside = Annotated[str, AfterValidator(_inside)]


class Preprocessing(_Part):
    """Of `data`: as `bnzoo.data.preprocessing` reads it."""

    layout: Literal["image", "rows", "flat", "features"]
    image_size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None
    channels: Literal[1, 3] | None
    scale: float

    @model_validator(mode="after")
    def _images_fit_into_memory(self) -> "Preprocessing":
        height, width = self.image_size or (1, 1)
        if height * width > MAX_PIXELS or (self.image_size and not self.channels):
            raise ValueError(
                f"image_size: expected at most {MAX_PIXELS:,} pixels, and channels, got "
                f"{self.image_size} and {self.channels}."
            )
        return self


class DataFacts(_Part):
    """What a run met."""

    input_shape: list[Any] | dict[str, Any] | None
    class_names: list[str]
    preprocessing: Preprocessing


class BestEpoch(_Part):
    """The epoch that was best by a metric."""

    metric: str
    row: Row | None


class Finding(_Part):
    """What was found wrong with batch normalization."""

    kind: str
    title: str
    line: str


class RunSummary(_Part):
    """Of a run."""

    status: Literal["completed", "diverged", "interrupted"]
    epochs: NonNegativeInt
    steps: NonNegativeInt
    seconds: float
    first_batch_loss: float | None
    diverged: dict[str, float] | None
    final: Row | None
    best: BestEpoch
    test: Row | None
    data: DataFacts
    findings: list[Finding] = []
    protocol: str
    versions: dict[str, str]
    machine: dict[str, Any]
    device: list[str]

    @model_validator(mode="after")
    def _holds_what_it_ended_with(self) -> "RunSummary":
        if self.status == "diverged" and self.diverged is None:
            raise ValueError("diverged: expected where, got null.")
        if self.status != "completed":
            return self
        if not self.epochs or (self.test or {}).get("loss") is None:
            raise ValueError(f"test: expected the loss of a completed run, got {self.test!r}.")
        if (self.best.row or {}).get(self.best.metric) is None:
            raise ValueError(f"best.row: expected its {self.best.metric!r}, got {self.best.row!r}.")
        return self


class RunOfStudy(_Part):
    """What a study's summary says of one of its runs."""

    seed: int
    status: str
    folder: FolderInside
    best: Row | None
    selection_metric: str | None


class Numbers(_Part):
    """A mean and its spread."""

    n: NonNegativeInt
    mean: float | None
    std: float | None = None


class Variant(_Part):
    """What a study's summary says of a variant; `test_accuracy` and the like are among the rest."""

    runs: list[RunOfStudy]
    diverged: NonNegativeInt


class StudySummary(_Part):
    """Of a study."""

    status: Literal["completed", "interrupted"]
    metric: Annotated[str, Field(pattern=r"^test \w+$")] = "test accuracy"
    seeds: list[int]
    variants: dict[str, Variant]

    @model_validator(mode="after")
    def _variants_have_numbers(self) -> "StudySummary":
        for name, variant in self.variants.items():
            key = self.metric.replace(" ", "_")
            numbers = Numbers.model_validate((variant.model_extra or {}).get(key))
            completed = [run for run in variant.runs if run.status == "completed"]
            scores = [(run.best or {}).get(run.selection_metric or "") for run in completed]
            if None in scores or (numbers.n and (numbers.mean is None or not scores)):
                raise ValueError(
                    f"variants.{name}: expected the {self.metric} and the best epochs of "
                    f"{numbers.n} completed runs, got {numbers.mean} and {scores}."
                )
        return self


class Objective(_Part):
    """What a sweep looks for."""

    name: str
    direction: Literal["max", "min"]


class BestTrial(_Part):
    """The best trial of a sweep, and its best run."""

    trial: str
    seed: int
    folder: FolderInside
    scores: Numbers


class TrialRuns(_Part):
    """The runs of a trial."""

    runs: list[dict[str, Any]]


class SweepSummary(_Part):
    """Of a sweep."""

    status: Literal["completed", "interrupted"]
    objective: Objective
    trials: list[TrialRuns]
    best: BestTrial | None
