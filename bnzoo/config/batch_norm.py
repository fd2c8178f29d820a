"""What a config can tell the batch normalization layers."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bnzoo.config.base import NonNegativeFloat, Section

Momentum = Annotated[float, Field(ge=0, le=1)]

# What the layer refuses in its constructor, said before anything is built.
EXCLUSIVE = (
    (
        "renorm",
        "unbiased_moving_variance",
        "Batch renormalization has its own moving variance",
    ),
    ("virtual_batch_size", "synchronized", "One takes less than the batch, the other more"),
    ("virtual_batch_size", "renorm", "Each ghost batch would need corrections of its own"),
    ("implementation", "synchronized", "The fused kernel does not let statistics be merged"),
    ("implementation", "virtual_batch_size", "The fused kernel takes one mean per channel"),
)


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
            `None` (null): the average over all steps.
        epsilon: added to the variance, >= 0; 0.001 is Keras', 1e-5 PyTorch's.
        center: learn an offset for each channel.
        scale: learn a factor for each channel.
        renorm: batch renormalization.
        renorm_clipping: its limits.
        renorm_momentum: its momentum, in [0, 1].
        synchronized: one set of statistics for all replicas (TensorFlow only).
        implementation: `auto` (the layer chooses), `reference`, `fused` or `xla`.
        virtual_batch_size: examples normalised together, at least 2; `None`: the whole batch.
        unbiased_moving_variance: store the variance divided by n - 1, as PyTorch does.
    """

    momentum: Momentum | None = 0.99
    epsilon: NonNegativeFloat = 0.001
    center: bool = True
    scale: bool = True
    renorm: bool = False
    renorm_clipping: RenormClipping | None = None
    renorm_momentum: Momentum = 0.99
    synchronized: bool = False
    implementation: Literal["auto", "reference", "fused", "xla"] = "auto"
    virtual_batch_size: Annotated[int, Field(ge=2)] | None = None
    unbiased_moving_variance: bool = False

    @model_validator(mode="after")
    def _one_way_to_take_statistics(self) -> Self:
        for one, other, reason in EXCLUSIVE:
            if self._asks(one) and self._asks(other):
                raise ValueError(
                    f"expected at most one of {one} and {other}, got {getattr(self, one)} and "
                    f"{getattr(self, other)}. {reason}: leave one out."
                )
        return self

    def _asks(self, name: str) -> bool:
        return getattr(self, name) not in (None, False, "auto", "reference", "xla")

    def arguments(self) -> dict[str, Any]:
        """Return these as arguments of the layer; other limits than given stay the layer's."""
        return self.model_dump(exclude_none=True) | {"momentum": self.momentum}
