"""What a study of the papers watches during the runs of a comparison: `compare.study`.

`numbers` of each section are the names of what it makes of a run in `summary.json`, in words.
"""

from typing import Annotated, ClassVar, Literal

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

    numbers: ClassVar[dict[str, str]] = {
        "median_shift": "Way of the medians over the distance of the 15th and 85th percentile"
    }

    name: Literal["activation_shift"]
    every: PositiveInt = 100
    examples: PositiveInt = 1000
    unit: NonNegativeInt = 0
    from_step: NonNegativeInt = 1000


class Gradients(Section):
    """Gradients and activations before the first step (Bjorck et al. 2018).

    A run of one step is the rest: `train.epochs: 1` and `train.steps_per_epoch: 1`.

    Attributes:
        name: which study.
        layer: whose kernel the gradients of the loss are taken for, by its name as in
            `model.summary()`; the default is the middle of ResNet-110.
        batches: of training examples, each looked at by itself.
    """

    numbers: ClassVar[dict[str, str]] = {
        "log10_gradient_std": "Standard deviation of the gradients, decades",
        "gradient_kurtosis": "Their excess kurtosis",
        "log10_gradient_largest": "The largest, decades",
        "log10_channel_mean_last": "Mean of a channel at the greatest depth, decades",
        "log10_channel_variance_last": "Its variance, decades",
        "log10_channel_variance_growth": "Its variance over that at the least depth, decades",
    }

    name: Literal["gradients"]
    layer: str = "conv_55"
    batches: PositiveInt = 1


class Landscape(Section):
    """Loss and gradient along the gradient (Santurkar et al. 2018, figure 4).

    Attributes:
        name: which study.
        every: steps from one look to the next.
        factors: how far to go along the gradient, in learning rates of that step.
        batches: of training examples to go through, look after look, the same in each run.
    """

    numbers: ClassVar[dict[str, str]] = {
        "loss_range": "Range of the loss along the gradient, median over the looks",
        "gradient_change": "Largest change of the gradient along it, median over the looks",
        "effective_smoothness": "Effective beta-smoothness, maximum over the looks",
    }

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

    numbers: ClassVar[dict[str, str]] = {
        "phase_gap": "Accuracy in training mode less that in inference mode, mean over the epochs",
        "last_phase_gap": "The same after the last epoch",
    }

    name: Literal["train_test_gap"]
    examples: PositiveInt = 1000


Study = Annotated[
    ActivationShift | Gradients | Landscape | TrainTestGap, Field(discriminator="name")
]
