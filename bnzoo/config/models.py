"""What every model can be told: names, parameters, defaults, and the limits of each.

No Keras here, so that a config is checked without it. `bnzoo.models` builds what these describe.
Sizes that depend on the data (`input_shape`, `classes`) may stay `None` in a config: `resolved`
fills them, from the data when there is any, else with the published ones.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bnzoo.config.base import PositiveInt, Section
from bnzoo.config.batch_norm import BatchNorm
from bnzoo.config.model_fields import (
    Activation,
    ImageShape,
    Initialization,
    Placement,
    SequenceShape,
    Shape,
    refuse,
    sizes,
)
from bnzoo.config.problems import check
from bnzoo.errors import InputError, nearest

_CHANNELS = "Each entry is the number of channels of one block."
_UNITS = "Each entry is the number of units of one hidden layer."


class ModelParameters(Section):
    """What every model can be told.

    Attributes:
        placement: where batch normalization stands: nowhere, before or after the activation.
        initialization: `keras` is Keras' defaults (glorot-uniform kernels, zero biases); `torch` is
            PyTorch's (kernels and biases uniform in +-1/sqrt(fan_in)).
        batch_norm: arguments of the batch normalization layers.
        input_shape: shape of one sample, without the batch. `None`: the data's, or as published.
        classes: number of logits. `None`: the data's, or as published.
        activation: after every hidden layer.
        use_bias: `True`: every linear layer has a bias, as published. `False` leaves out those
            that batch normalization makes idle by subtracting the mean right after them (that is
            with `placement: before`), and only those, so that the network stays as expressive.
    """

    # One line for `bnzoo models`, and where the network and its published sizes come from.
    summary: ClassVar[str]
    source: ClassVar[str]
    published_input_shape: ClassVar[tuple[int | None, ...]]
    published_classes: ClassVar[int | None] = 10

    name: str
    placement: Placement = "before"
    initialization: Initialization = "keras"
    batch_norm: BatchNorm = BatchNorm()
    input_shape: Shape | None = None
    classes: PositiveInt | None = None
    activation: Activation = "relu"
    use_bias: bool = True

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
        return model_parameters(**{**self.model_dump(), **filled})


class Dense(ModelParameters):
    """Dense layers on flattened samples; 784-64-10 as published."""

    summary: ClassVar = "dense 64, ReLU, dense 10 on 784 pixels"
    source: ClassVar = "the usual first example on MNIST: 784 - 64 - BN - ReLU - 10"
    published_input_shape: ClassVar = (784,)

    name: Literal["dense"] = "dense"
    units: Annotated[tuple[int, ...], sizes(_UNITS)] = (64,)


class _ImageNetwork(ModelParameters):
    """A network for images, whose poolings set the smallest image it can take."""

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
            refuse(
                f"an input_shape of at least {smallest} x {smallest} pixels",
                self.input_shape,
                f"Nothing would be left of a smaller image inside {self.name}: use larger images.",
            )
        return self


class LeNet(_ImageNetwork):
    """Two convolutions with poolings, two hidden dense layers."""

    summary: ClassVar = "LeNet: 2 x [conv 5x5, ReLU, max-pool], dense 120 and 84, 32x32x3 images"
    source: ClassVar = (
        '"Batch Normalization (BN) and Its Effects on the Learning Process of Convolutional '
        'Neural Networks" (CIFAR-10)'
    )
    published_input_shape: ClassVar = (32, 32, 3)

    name: Literal["lenet"] = "lenet"
    filters: Annotated[tuple[int, ...], sizes(_CHANNELS, count=2)] = (6, 16)
    kernel_size: PositiveInt = 5
    units: Annotated[tuple[int, ...], sizes(_UNITS, count=2)] = (120, 84)

    def smallest_size(self) -> int:
        """Go back from one pixel through each pooling (x 2) and valid convolution (+ k - 1)."""
        size = 1
        for _ in self.filters:
            size = 2 * size + self.kernel_size - 1
        return size


class ThreeConv(_ImageNetwork):
    """Three convolutions that keep the size, one pooling."""

    summary: ClassVar = "3 x [conv 3x3 of 16 filters, ReLU], max-pool, dense 10 on 32x32x1 images"
    source: ClassVar = (
        '"Exploring the Superhero Role of 2D Batch Normalization in Deep Learning Architectures" '
        "(Devanagari digits)"
    )
    published_input_shape: ClassVar = (32, 32, 1)

    name: Literal["three_conv"] = "three_conv"
    filters: Annotated[tuple[int, ...], sizes(_CHANNELS, count=3)] = (16, 16, 16)
    kernel_size: PositiveInt = 3


class OneConv(_ImageNetwork):
    """One convolution that keeps the size, one pooling."""

    summary: ClassVar = "conv 3x3 of 16 filters, ReLU, max-pool, dense 10 on 32x32x1 images"
    source: ClassVar = ThreeConv.source
    published_input_shape: ClassVar = (32, 32, 1)

    name: Literal["one_conv"] = "one_conv"
    filters: Annotated[tuple[int, ...], sizes(_CHANNELS, count=1)] = (16,)
    kernel_size: PositiveInt = 3


class Conv1D(ModelParameters):
    """One convolution over steps: bare as in the sources, or a classifier of padded sequences.

    Attributes:
        activation: `None` is no activation in the bare example, and ReLU in the classifier.
        mask_value: a step whose features all equal this is padding (classifier only).
    """

    summary: ClassVar = "conv of 64 filters over 3 of 128 steps x 256 features; or a classifier"
    source: ClassVar = "the usual Conv1D example: input (128, 256), 64 filters over 3 steps, BN"
    published_input_shape: ClassVar = (128, 256)
    published_classes: ClassVar = None

    name: Literal["conv1d"] = "conv1d"
    input_shape: SequenceShape | None = None
    activation: Activation | None = None
    filters: Annotated[tuple[int, ...], sizes(_CHANNELS, count=1)] = (64,)
    kernel_size: PositiveInt = 3
    mask_value: float = -1.0

    def resolved(
        self, input_shape: tuple[int | None, ...] | None = None, classes: int | None = None
    ) -> Self:
        """Fill the open sizes as every model does, and then the activation."""
        filled = super().resolved(input_shape, classes)
        usual = "relu" if filled.classes else "linear"
        return filled.model_copy(update={"activation": self.activation or usual})

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        steps = self.input_shape[0] if self.input_shape else None
        if steps is not None and steps < self.kernel_size:
            refuse(
                f"an input_shape of at least kernel_size = {self.kernel_size} steps",
                self.input_shape,
                "Use longer sequences, a smaller kernel_size, or None steps for any length.",
            )
        return self


MODEL_SCHEMAS: dict[str, type[ModelParameters]] = {
    "conv1d": Conv1D,
    "dense": Dense,
    "lenet": LeNet,
    "one_conv": OneConv,
    "three_conv": ThreeConv,
}
MODEL_NAMES: tuple[str, ...] = tuple(sorted(MODEL_SCHEMAS))


# A config's `model` section: the schema is chosen by `name`.
Model = Annotated[Conv1D | Dense | LeNet | OneConv | ThreeConv, Field(discriminator="name")]


def model_parameters(name: str, **parameters: Any) -> ModelParameters:
    """Check a model's parameters as given in Python.

    Args:
        name: one of `MODEL_NAMES`.
        **parameters: fields of its schema.

    Returns:
        The frozen parameters, defaults filled in.

    Raises:
        InputError: an unknown name, or every problem of the parameters, one per line.
    """
    if name not in MODEL_NAMES:
        raise InputError(f"expected the name of a model, got {name!r}. {_model_hint(name)}")
    return check(MODEL_SCHEMAS[name], {"name": name, **parameters}, source=name)


def _model_hint(name: Any) -> str:
    near = nearest(name, MODEL_NAMES) if isinstance(name, str) else ""
    return f"{near} There are {', '.join(MODEL_NAMES)}.".strip()


def _matches(model: tuple[int | None, ...], data: tuple[int | None, ...]) -> bool:
    """Tell whether a model of one shape takes data of another; `None` in a model takes any size."""
    return len(model) == len(data) and all(
        size is None or size == found for size, found in zip(model, data, strict=True)
    )
