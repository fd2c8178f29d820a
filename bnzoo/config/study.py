"""What a study of the papers watches during the runs of a comparison: `compare.study`."""

from typing import Annotated, Literal

from pydantic import Field

from bnzoo.config.section import NonNegativeInt, PositiveFloat, PositiveInt, Section


class ActivationShift(Section):
    """How the input of the last hidden activation moves (Ioffe and Szegedy 2015, section 4.1).

    Attributes:
        name: which study.
        every: steps from one look to the next.
        examples: training examples to look at, the same each time; as many batches as hold them.
        unit: of that layer, from 0, whose percentiles are drawn.
        from_step: from where on the shift counts; before, every network finds its scale.
    """

    name: Literal["activation_shift"]
    every: PositiveInt = 100
    examples: PositiveInt = 1000
    unit: NonNegativeInt = 0
    from_step: NonNegativeInt = 1000


class Gradients(Section):
    """Gradients and activations before the first step (Bjorck et al. 2018, section 3).

    A run of one step is the rest: `train.epochs: 1` and `train.steps_per_epoch: 1`.

    Attributes:
        name: which study.
        layer: whose kernel the gradients of the loss are taken for, by its name as in
            `model.summary()`; the default is the middle of ResNet-110.
        batches: of training examples, each looked at by itself.
    """

    name: Literal["gradients"]
    layer: str = "conv_55"
    batches: PositiveInt = 1


class Landscape(Section):
    """Loss and gradient along the gradient (Santurkar et al. 2018, section 3.1, figure 4).

    Attributes:
        name: which study.
        every: steps from one look to the next.
        factors: how far to go along the gradient, in learning rates of that step.
        batches: of training examples to go through, look after look, the same in each run.
    """

    name: Literal["landscape"]
    every: PositiveInt = 10
    factors: tuple[PositiveFloat, ...] = Field(
        (0.5, 1.0, 2.0, 3.0, 4.0), min_length=2, strict=False
    )
    batches: PositiveInt = 16


class TrainTestGap(Section):
    """Accuracy on the same examples in training mode and in inference mode, after each epoch.

    Attributes:
        name: which study.
        examples: of the training data, the same each time; as many batches as hold them.
    """

    name: Literal["train_test_gap"]
    examples: PositiveInt = 1000


Study = Annotated[
    ActivationShift | Gradients | Landscape | TrainTestGap, Field(discriminator="name")
]
