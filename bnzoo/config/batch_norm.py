"""What a config can tell the batch normalization layers."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from bnzoo.config.base import NonNegativeFloat, Section

Momentum = Annotated[float, Field(ge=0, le=1)]


class RenormClipping(Section):
    """Limits of batch renormalization's correction `normalized * r + d`; `None` is no limit."""

    rmin: NonNegativeFloat | None = None
    rmax: NonNegativeFloat | None = None
    dmax: NonNegativeFloat | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.rmin is not None and self.rmax is not None and self.rmin > self.rmax:
            raise ValueError(f"expected rmin <= rmax, got {self.rmin} and {self.rmax}. Swap them.")
        return self


class BatchNorm(Section):
    """The arguments of `bnzoo.BatchNormalization` that a config can hold, and their defaults.

    Attributes:
        momentum: share of the old average kept at each step, in [0, 1]. PyTorch's is 1 - this.
        epsilon: added to the variance, >= 0; 0.001 is Keras', 1e-5 PyTorch's.
        center: learn an offset for each channel.
        scale: learn a factor for each channel.
        renorm: batch renormalization.
        renorm_clipping: its limits.
        renorm_momentum: its momentum, in [0, 1].
        synchronized: one set of statistics for all replicas (TensorFlow only).
        unbiased_moving_variance: store the variance divided by n - 1, as PyTorch does.
    """

    momentum: Momentum = 0.99
    epsilon: NonNegativeFloat = 0.001
    center: bool = True
    scale: bool = True
    renorm: bool = False
    renorm_clipping: RenormClipping | None = None
    renorm_momentum: Momentum = 0.99
    synchronized: bool = False
    unbiased_moving_variance: bool = False

    @model_validator(mode="after")
    def _one_definition_of_the_moving_variance(self) -> Self:
        if self.renorm and self.unbiased_moving_variance:
            raise ValueError(
                "expected at most one of renorm and unbiased_moving_variance, got true for both. "
                "Batch renormalization has its own moving variance: leave one out."
            )
        return self

    def arguments(self) -> dict[str, Any]:
        """Return these as arguments of the layer; what is `None` is left to its default."""
        return self.model_dump(exclude_none=True)
