"""What every model of the zoo can be told.

Sizes that depend on the data (`input_shape`, `classes`) may stay `None` in a config: `resolved`
fills them, from the data when there is any, else with the published ones.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from bnzoo.config.batch_norm import BatchNorm
from bnzoo.config.problems import check
from bnzoo.config.section import PositiveFloat, PositiveInt, Section, whole
from bnzoo.errors import InputError

# Keras' activations that work on each value alone and need no argument.
Activation = Literal[
    "elu",
    "gelu",
    "leaky_relu",
    "linear",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
]

CHANNELS = "Each entry is the number of channels of one block."
UNITS = "Each entry is the number of units of one hidden layer."
SAMPLE = "It is the shape of one sample, without the batch."

Initialization = Literal["keras", "torch", "he", "normal"]
Dropout = Annotated[float, Field(ge=0, lt=1)]
OneBlock = Annotated[tuple[PositiveInt], whole("a list of one positive integer", CHANNELS)]
Shape = Annotated[
    tuple[PositiveInt, ...], Field(min_length=1), whole("a shape of positive integers", SAMPLE)
]


class ModelParameters(Section):
    """What every model can be told.

    Attributes:
        name: which model; `bnzoo models` lists them.
        placement: where batch normalization stands: nowhere, before or after the activation.
        initialization: `keras` is Keras' defaults (glorot-uniform kernels, zero biases); `torch` is
            PyTorch's (kernels and biases uniform in +-1/sqrt(fan_in)); `he` is He-normal kernels
            and `normal` kernels from N(0, 0.1), both with zero biases.
        kernel_scale: factor on the initial kernels of the hidden layers; the logits keep theirs, as
            their scale is that of the loss, which no batch normalization undoes.
        batch_norm: arguments of the batch normalization layers.
        group_norm: number of groups of channels of `keras.layers.GroupNormalization`, which then
            stands wherever batch normalization would, under the same names, with the `epsilon`,
            `center` and `scale` of `batch_norm`; null is batch normalization. As many groups as
            divide the channels too (their greatest common divisor); one behind a dense layer. 32
            is the default of Wu and He 2018, arXiv 1803.08494.
        input_shape: shape of one sample, without the batch; null takes the data's.
        classes: number of logits; null takes the number of classes of the data.
        activation: after every hidden layer.
        use_bias: `true` gives every linear layer a bias, as published. `false` leaves out those
            that batch normalization makes idle by subtracting the mean right after them (that is
            with `placement: before`), and only those, so that the network stays as expressive;
            with `group_norm` the same ones, so that both have the same weights.
    """

    published_input_shape: ClassVar[tuple[int | None, ...]]
    published_classes: ClassVar[int | None] = 10
    # Of the network with its defaults, moving statistics included: what `bnzoo models` lists.
    published_count: ClassVar[int]
    # The axes of a sample, where the network needs certain ones, and the view that has them.
    axes: ClassVar[tuple[str, ...]] = ()
    view: ClassVar[str] = "flat"

    name: str
    placement: Literal["none", "before", "after"] = "before"
    initialization: Initialization = "keras"
    kernel_scale: PositiveFloat = 1.0
    batch_norm: BatchNorm = BatchNorm()
    group_norm: PositiveInt | None = None
    input_shape: Shape | None = None
    classes: PositiveInt | None = None
    activation: Activation = "relu"
    use_bias: bool = True

    def check_axes(self, input_shape: tuple[int | None, ...]) -> None:
        """Refuse data whose samples have other axes than the network needs.

        Args:
            input_shape: shape of one sample, without the batch; `None` where a size is not known.

        Raises:
            InputError: names the `data.view` that has them.
        """
        if self.axes and len(input_shape) != len(self.axes):
            received = ", ".join("any" if size is None else str(size) for size in input_shape)
            raise InputError(
                f"{self.name}: expected data of shape ({', '.join(self.axes)}), got ({received}). "
                f"Set data.view: {self.view}, or choose another model."
            )

    def resolved(
        self, input_shape: tuple[int | None, ...] | None = None, classes: int | None = None
    ) -> Self:
        """Fill the sizes left open: with the data's, where given, else with the published ones.

        Args:
            input_shape: shape of one sample of the data, without the batch; `None` entries vary.
            classes: number of classes in the data.

        Returns:
            The same parameters with `input_shape` and `classes` decided. `conv1d` without data
            keeps `classes=None`: its published example has no classifier.

        Raises:
            InputError: the data does not fit what the config says, or the network.
        """
        if input_shape:
            self.check_axes(input_shape)
        if self.input_shape and input_shape and not _matches(self.input_shape, input_shape):
            raise InputError(
                f"{self.name}: input_shape: expected the data's {tuple(input_shape)}, got "
                f"{self.input_shape}. Leave it out to take the data's."
            )
        if self.classes and classes and self.classes < classes:
            raise InputError(
                f"{self.name}: classes: expected at least the data's {classes}, got "
                f"{self.classes}. Leave it out to take the data's."
            )
        filled = {
            "input_shape": self.input_shape or input_shape or self.published_input_shape,
            "classes": self.classes or classes or self.published_classes,
        }
        return check(type(self), {**self.model_dump(), **filled}, source=self.name)


def _matches(model: tuple[int | None, ...], data: tuple[int | None, ...]) -> bool:
    """Tell whether a model of one shape takes data of another; `None` in a model takes any size."""
    return len(model) == len(data) and all(
        size is None or size == found for size, found in zip(model, data, strict=True)
    )
