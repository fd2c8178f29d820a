"""What a study of the papers watches during the runs of a comparison: `compare.study`."""

from typing import Literal

from bnzoo.config.section import NonNegativeInt, PositiveInt, Section


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


Study = ActivationShift
