"""One or three small convolutions with one pooling: `one_conv` and `three_conv`."""

from typing import Annotated, ClassVar, Literal

from bnzoo.config.models.images import ImageNetwork
from bnzoo.config.models.parameters import CHANNELS, OneBlock
from bnzoo.config.section import PositiveInt, whole


class ThreeConv(ImageNetwork):
    """3 x [conv 3x3 of 16 filters, ReLU], max-pool, dense 10 on 32x32x1 images.

    Attributes:
        filters: channels of each convolution.
        kernel_size: height and width of the convolutions, in pixels.

    Source:
        "Exploring the Superhero Role of 2D Batch Normalization in Deep Learning Architectures"
        (Devanagari digits).
    """

    published_count: ClassVar = 45_962

    name: Literal["three_conv"]
    filters: Annotated[
        tuple[PositiveInt, PositiveInt, PositiveInt],
        whole("a list of three positive integers", CHANNELS),
    ] = (16, 16, 16)
    kernel_size: PositiveInt = 3


class OneConv(ImageNetwork):
    """conv 3x3 of 16 filters, ReLU, max-pool, dense 10 on 32x32x1 images.

    Attributes:
        filters: channels of the convolution.
        kernel_size: height and width of the convolution, in pixels.

    Source:
        As of `ThreeConv`.
    """

    published_count: ClassVar = 41_194

    name: Literal["one_conv"]
    filters: OneBlock = (16,)
    kernel_size: PositiveInt = 3
