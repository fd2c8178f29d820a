"""LeNet."""

from typing import Annotated, ClassVar, Literal

from bnzoo.config.models.images import ImageNetwork
from bnzoo.config.models.parameters import CHANNELS, UNITS
from bnzoo.config.section import PositiveInt, whole


class LeNet(ImageNetwork):
    """LeNet: 2 x [conv 5x5, ReLU, max-pool], dense 120 and 84, 32x32x3 images.

    Attributes:
        filters: channels of each convolution.
        kernel_size: height and width of the convolutions, in pixels.
        units: of each hidden dense layer.

    Source:
        "Batch Normalization (BN) and Its Effects on the Learning Process of Convolutional Neural
        Networks" (CIFAR-10).
    """

    published_input_shape: ClassVar = (32, 32, 3)
    published_count: ClassVar = 62_910

    name: Literal["lenet"]
    filters: Annotated[
        tuple[PositiveInt, PositiveInt], whole("a list of two positive integers", CHANNELS)
    ] = (6, 16)
    kernel_size: PositiveInt = 5
    units: Annotated[
        tuple[PositiveInt, PositiveInt], whole("a list of two positive integers", UNITS)
    ] = (120, 84)

    def smallest_size(self) -> int:
        """Go back from one pixel through each pooling (x 2) and valid convolution (+ k - 1)."""
        size = 1
        for _ in self.filters:
            size = 2 * size + self.kernel_size - 1
        return size
