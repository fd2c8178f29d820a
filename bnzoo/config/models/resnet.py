"""`resnet`: residual networks for CIFAR and for ImageNet."""

from typing import Annotated, ClassVar, Literal

from bnzoo.config.models.images import StemmedNetwork
from bnzoo.config.section import PositiveFloat, whole

IMAGENET_DEPTHS = (18, 34, 50)
Depth = Annotated[
    Literal[8, 14, 18, 20, 26, 32, 34, 38, 44, 50, 56, 62, 68, 74, 80, 86, 92, 98, 104, 110],
    whole(
        "18, 34 or 50 (stages for images of 224 pixels) or 6n + 2 from 8 to 110 (for CIFAR)",
        "It is the number of layers with weights, such as 20, 32, 44, 56 or 110.",
    ),
]


class ResNet(StemmedNetwork):
    """ResNet-20 (or 8 to 110) for 32x32x3 images; 18, 34 and 50 for 224x224x3.

    Attributes:
        placement: `before` is as published. `after` moves each normalization behind the next
            activation, so that the last of a block stands behind that of the sum; with
            `preactivation` it stands between activation and convolution. `none` leaves them out.
        depth: number of layers with weights. 6n + 2 is three stages of n blocks of two 3x3
            convolutions, and shortcuts without parameters; 18 and 34 are four stages of such
            blocks, 50 of blocks 1x1, 3x3, 1x1, and 1x1 convolutions where the shape changes.
        preactivation: activate before each convolution, so that nothing stands on the way of the
            sums (He et al. 2016b); false activates each sum.
        stem: `full` is a 7x7 convolution and a pooling, both with strides of 2; `small` is a 3x3
            convolution without. Null is `full` from 96 pixels for 18, 34 and 50, else `small`.
        width: factor on the channels of every convolution.
        use_bias: false, as published, leaves out the biases that batch normalization makes idle;
            true is as in `keras.applications`.

    Source:
        He et al. 2016, "Deep Residual Learning for Image Recognition", sections 4.1 and 4.2
        (shortcuts A on CIFAR, B on ImageNet); 2016b, "Identity Mappings in Deep Residual Networks".
    """

    published_count: ClassVar = 271_098

    name: Literal["resnet"]
    depth: Depth = 20
    preactivation: bool = False
    width: PositiveFloat = 1.0
    use_bias: bool = False

    @property
    def is_for_imagenet(self) -> bool:
        """Whether it has the four stages of the networks for images of 224 pixels."""
        return self.depth in IMAGENET_DEPTHS

    @property
    def published_input_shape(self) -> tuple[int, int, int]:
        """The images of CIFAR or ImageNet, depending on the depth."""
        return (224, 224, 3) if self.is_for_imagenet else (32, 32, 3)

    @property
    def published_classes(self) -> int:
        """The classes of CIFAR-10 or ImageNet, depending on the depth."""
        return 1000 if self.is_for_imagenet else 10

    @property
    def has_full_stem(self) -> bool:
        """Whether it starts as for ImageNet: the networks for CIFAR do so only when told to."""
        return super().has_full_stem and (self.is_for_imagenet or self.stem == "full")

    def smallest_size(self) -> int:
        """Multiply the strides of the stem with those between the stages."""
        return (4 if self.has_full_stem else 1) * (8 if self.is_for_imagenet else 4)
