"""`inception`: the network of the batch normalization paper."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bnzoo.config.models.images import StemmedNetwork
from bnzoo.config.models.parameters import Dropout
from bnzoo.config.section import PositiveFloat, PositiveInt, each_once, whole

BlockName = Literal["3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]
REDUCING_BLOCKS = ("3c", "4e")
"""Those that halve height and width."""

_BLOCKS = "They are the rows of the paper's table, from 3a to 5b; leave some out for a smaller one."


class Inception(StemmedNetwork):
    """Inception as in the batch normalization paper, 224x224x3 images.

    Attributes:
        filters: channels of the stem's two convolutions.
        blocks: which of the paper's ten blocks there are, by their names there.
        width: factor on the channels of the blocks.
        dropout: share of the values that is dropped before the logits.
        use_bias: false, as published, leaves out the biases that batch normalization makes idle.

    Source:
        Ioffe and Szegedy 2015, appendix, figure 5: 5x5 convolutions as two 3x3, no local response
        normalization. Here the first convolution is an ordinary one, not a separable one. The
        branches are as wide as the table says, which makes 608 channels of 4c and 4d, and 1056 of
        4e, where its column of output sizes has 576 and 1024.
    """

    published_input_shape: ClassVar = (224, 224, 3)
    published_classes: ClassVar = 1000
    published_count: ClassVar = 11_305_256

    name: Literal["inception"]
    filters: Annotated[
        tuple[PositiveInt, PositiveInt],
        whole("a list of two positive integers", "They are the channels of the stem."),
    ] = (64, 192)
    blocks: Annotated[
        tuple[BlockName, ...],
        Field(min_length=1),
        each_once("block"),
        whole("a list of different names of blocks, such as [3a, 3c, 4a]", _BLOCKS),
    ] = ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    width: PositiveFloat = 1.0
    dropout: Dropout = 0.0
    use_bias: bool = False

    def smallest_size(self) -> int:
        """Multiply the strides of the stem with those of the blocks."""
        reductions = sum(name in REDUCING_BLOCKS for name in self.blocks)
        return (8 if self.has_full_stem else 1) * 2**reductions
