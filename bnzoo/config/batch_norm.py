"""What a config can tell the batch normalization layers."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bnzoo.config.section import NonNegativeFloat, Section
from bnzoo.exclusive import check_combination

Momentum = Annotated[float, Field(ge=0, le=1)]


class RenormClipping(Section):
    """Limits of batch renormalization's correction `normalized * r + d`; null is no limit.

    Attributes:
        rmin: smallest r.
        rmax: largest r.
        dmax: largest d, in either direction.
    """

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
        momentum: share of the old average kept at each step; null is the average over all steps.
            PyTorch's momentum is 1 - this.
        epsilon: added to the variance; 0.001 is Keras' default, 1e-5 PyTorch's.
        center: learn an offset for each channel.
        scale: learn a factor for each channel.
        renorm: batch renormalization.
        renorm_clipping: limits of its correction.
        renorm_momentum: momentum of its moving statistics.
        synchronized: one set of statistics for all replicas of `train.distribute` (TensorFlow
            only); null is true there, unless ghosts or the fused kernel rule it out.
        implementation: `auto` lets the layer choose.
        virtual_batch_size: examples normalized together; null is the whole batch.
        unbiased_moving_variance: store the variance divided by n - 1, as PyTorch does.
    """

    momentum: Momentum | None = 0.99
    epsilon: NonNegativeFloat = 0.001
    center: bool = True
    scale: bool = True
    renorm: bool = False
    renorm_clipping: RenormClipping | None = None
    renorm_momentum: Momentum = 0.99
    synchronized: bool | None = None
    implementation: Literal["auto", "reference", "fused", "xla"] = "auto"
    virtual_batch_size: Annotated[int, Field(ge=2)] | None = None
    unbiased_moving_variance: bool = False

    @model_validator(mode="after")
    def _one_way_to_take_statistics(self) -> Self:
        check_combination(**dict(self))
        return self

    def for_replicas(self) -> Self:
        """Return the same with what null stands for where a run is distributed."""
        rules_out = self.virtual_batch_size is not None or self.implementation == "fused"
        if self.synchronized is not None or rules_out:
            return self
        return self.model_copy(update={"synchronized": True})

    def arguments(self) -> dict[str, Any]:
        """Return these as arguments of the layer; other limits than given stay the layer's."""
        return self.model_dump(exclude_none=True) | {"momentum": self.momentum}
