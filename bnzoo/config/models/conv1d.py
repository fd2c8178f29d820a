"""`conv1d`: one convolution over the steps of sequences."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import model_validator

from bnzoo.config.models.parameters import SAMPLE, Activation, ModelParameters, OneBlock
from bnzoo.config.section import PositiveInt, whole
from bnzoo.errors import InputError

SequenceShape = Annotated[
    tuple[PositiveInt | None, PositiveInt],
    whole("(steps, features) as positive integers, or null steps for any length", SAMPLE),
]


class Conv1D(ModelParameters):
    """conv of 64 filters over 3 of 128 steps x 256 features; or a classifier.

    Bare as in the source, or a classifier of padded sequences.

    Attributes:
        activation: after the convolution; null is ReLU in the classifier and none in the bare
            example.
        filters: channels of the convolution.
        kernel_size: steps that the convolution spans.
        mask_value: a step whose features all equal this is padding (classifier only).

    Source:
        The usual Conv1D example: input (128, 256), 64 filters over 3 steps, BN.
    """

    published_input_shape: ClassVar = (128, 256)
    axes: ClassVar = ("steps", "features")
    view: ClassVar = "rows"
    published_classes: ClassVar = None
    published_count: ClassVar = 49_472

    name: Literal["conv1d"]
    input_shape: SequenceShape | None = None
    activation: Activation | None = None
    filters: OneBlock = (64,)
    kernel_size: PositiveInt = 3
    mask_value: float = -1.0

    def resolved(
        self, input_shape: tuple[int | None, ...] | None = None, classes: int | None = None
    ) -> Self:
        """Fill the open sizes as every model does, and then the activation.

        Raises:
            InputError: as of every model; or there are groups to normalize, and steps to leave out.
        """
        filled = super().resolved(input_shape, classes)
        if filled.classes and self.group_norm is not None:
            raise InputError(
                f"{self.name}: group_norm: expected null for the classifier, as Keras' layer would "
                f"count padded steps, got {self.group_norm}. Leave it out, or choose another model."
            )
        usual = "relu" if filled.classes else "linear"
        return filled.model_copy(update={"activation": self.activation or usual})

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        steps = self.input_shape[0] if self.input_shape else None
        if steps is not None and steps < self.kernel_size:
            raise ValueError(
                f"expected an input_shape of at least kernel_size = {self.kernel_size} steps, got "
                f"{list(self.input_shape)}. Use longer sequences, a smaller kernel_size, or null "
                "steps for any length."
            )
        return self
