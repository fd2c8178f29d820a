"""`vgg`: stages of 3x3 convolutions, each with a pooling at its end."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bnzoo.config.models.images import ImageNetwork
from bnzoo.config.models.parameters import UNITS, Dropout
from bnzoo.config.section import PositiveInt, whole

_STAGES = "Each entry is one stage: the channels of its convolutions, before a pooling."
Stages = Annotated[
    tuple[
        Annotated[tuple[PositiveInt, ...], Field(min_length=1), whole("a stage", _STAGES)],
        ...,
    ],
    Field(min_length=1),
    whole("lists of positive integers, such as [[16, 16], [32, 32]]", _STAGES),
]


class VGG(ImageNetwork):
    """VGG-A: 8 x [conv 3x3, ReLU] in 5 stages with max-pools, 32x32x3 images.

    The last stage is averaged over all pixels: at 32 pixels one is left, so this changes nothing.

    Attributes:
        filters: channels of each convolution, stage by stage; a max-pool follows each stage.
        units: of each hidden dense layer; none as published for CIFAR-10.
        dropout: share of the values that is dropped behind each hidden dense layer, or before the
            logits if there is none.

    Source:
        Simonyan and Zisserman 2014, configuration A, with one dense layer as usual for CIFAR-10;
        Santurkar et al. 2018 train it there.
    """

    published_input_shape: ClassVar = (32, 32, 3)
    published_count: ClassVar = 9_236_618

    name: Literal["vgg"]
    filters: Stages = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    units: Annotated[tuple[PositiveInt, ...], whole("a list of positive integers", UNITS)] = ()
    dropout: Dropout = 0.0

    def smallest_size(self) -> int:
        """Go back from one pixel through the pooling of each stage."""
        return 2 ** len(self.filters)
