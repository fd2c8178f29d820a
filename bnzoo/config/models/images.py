"""What every network for images can be told."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import model_validator

from bnzoo.config.models.parameters import SAMPLE, ModelParameters
from bnzoo.config.section import PositiveInt, whole

ImageShape = Annotated[
    tuple[PositiveInt, PositiveInt, PositiveInt],
    whole("(height, width, channels) as three positive integers", SAMPLE),
]


class ImageNetwork(ModelParameters):
    """A network for images, whose poolings and strides set the smallest image it can take."""

    axes: ClassVar = ("height", "width", "channels")
    view: ClassVar = "image"

    published_input_shape: ClassVar = (32, 32, 1)

    input_shape: ImageShape | None = None

    def smallest_size(self) -> int:
        """Return the smallest height and width, in pixels, that leave one pixel at the end.

        Here it is the window of one pooling, as the convolutions before it keep the size.
        """
        return 2

    @model_validator(mode="after")
    def _large_enough(self) -> Self:
        smallest = self.smallest_size()
        if self.input_shape is not None and min(self.input_shape[:2]) < smallest:
            raise ValueError(
                f"expected an input_shape of at least {smallest} x {smallest} pixels, got "
                f"{list(self.input_shape)}. A smaller one would shrink below one pixel inside "
                f"{self.name}: use larger images."
            )
        return self


class StemmedNetwork(ImageNetwork):
    """A network for large images that small ones enter without the strides of its stem.

    Attributes:
        stem: `full` is the published start, which shortens height and width four times or more;
            `small` is a 3x3 convolution in place of the 7x7, without strides and poolings, for
            images such as those of CIFAR. Null is `full` from 96 pixels.
    """

    stem: Literal["full", "small"] | None = None

    @property
    def has_full_stem(self) -> bool:
        """Whether the images are large enough for the published stem, or the config asks for it."""
        if self.stem is not None:
            return self.stem == "full"
        return min((self.input_shape or self.published_input_shape)[:2]) >= 96
