"""What every model can be told: names, parameters, defaults, and the limits of each.

No Keras here, so that a config is checked without it. `bnzoo.models` builds what these describe.
Sizes that depend on the data (`input_shape`, `classes`) may stay `None` in a config: `resolved`
fills them, from the data when there is any, else with the published ones.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from bnzoo.config.batch_norm import BatchNorm
from bnzoo.config.own import OwnModel
from bnzoo.config.problems import check
from bnzoo.config.section import PositiveInt, Section, whole
from bnzoo.errors import InputError, nearest

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

_CHANNELS = "Each entry is the number of channels of one block."
_UNITS = "Each entry is the number of units of one hidden layer."
_SAMPLE = "It is the shape of one sample, without the batch."

OneBlock = Annotated[tuple[PositiveInt], whole("a list of one positive integer", _CHANNELS)]
Shape = Annotated[
    tuple[PositiveInt, ...], Field(min_length=1), whole("a shape of positive integers", _SAMPLE)
]
ImageShape = Annotated[
    tuple[PositiveInt, PositiveInt, PositiveInt],
    whole("(height, width, channels) as three positive integers", _SAMPLE),
]
SequenceShape = Annotated[
    tuple[PositiveInt | None, PositiveInt],
    whole("(steps, features) as positive integers, or null steps for any length", _SAMPLE),
]


class ModelParameters(Section):
    """What every model can be told.

    Attributes:
        name: which model; `bnzoo models` lists them.
        placement: where batch normalization stands: nowhere, before or after the activation.
        initialization: `keras` is Keras' defaults (glorot-uniform kernels, zero biases); `torch` is
            PyTorch's (kernels and biases uniform in +-1/sqrt(fan_in)).
        batch_norm: arguments of the batch normalization layers.
        input_shape: shape of one sample, without the batch; null takes the data's.
        classes: number of logits; null takes the number of classes of the data.
        activation: after every hidden layer.
        use_bias: `true` gives every linear layer a bias, as published. `false` leaves out those
            that batch normalization makes idle by subtracting the mean right after them (that is
            with `placement: before`), and only those, so that the network stays as expressive.
    """

    published_input_shape: ClassVar[tuple[int | None, ...]]
    published_classes: ClassVar[int | None] = 10
    # The axes of a sample, where the network needs certain ones, and the view that has them.
    axes: ClassVar[tuple[str, ...]] = ()
    view: ClassVar[str] = "flat"

    name: str
    placement: Literal["none", "before", "after"] = "before"
    initialization: Literal["keras", "torch"] = "keras"
    batch_norm: BatchNorm = BatchNorm()
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
        return model_parameters(**{**self.model_dump(), **filled})


class Dense(ModelParameters):
    """dense 64, ReLU, dense 10 on 784 pixels.

    Attributes:
        units: of each hidden layer.

    Source:
        The usual first example on MNIST: 784 - 64 - BN - ReLU - 10.
    """

    published_input_shape: ClassVar = (784,)

    name: Literal["dense"]
    units: Annotated[
        tuple[PositiveInt, ...], Field(min_length=1), whole("a list of positive integers", _UNITS)
    ] = (64,)


class _ImageNetwork(ModelParameters):
    """A network for images, whose poolings set the smallest image it can take."""

    axes: ClassVar = ("height", "width", "channels")
    view: ClassVar = "image"

    published_input_shape: ClassVar = (32, 32, 1)

    input_shape: ImageShape | None = None
    kernel_size: PositiveInt = 3

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
                f"{list(self.input_shape)}. Nothing would be left of a smaller image inside "
                f"{self.name}: use larger images."
            )
        return self


class LeNet(_ImageNetwork):
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

    name: Literal["lenet"]
    filters: Annotated[
        tuple[PositiveInt, PositiveInt], whole("a list of two positive integers", _CHANNELS)
    ] = (6, 16)
    kernel_size: PositiveInt = 5
    units: Annotated[
        tuple[PositiveInt, PositiveInt], whole("a list of two positive integers", _UNITS)
    ] = (120, 84)

    def smallest_size(self) -> int:
        """Go back from one pixel through each pooling (x 2) and valid convolution (+ k - 1)."""
        size = 1
        for _ in self.filters:
            size = 2 * size + self.kernel_size - 1
        return size


class ThreeConv(_ImageNetwork):
    """3 x [conv 3x3 of 16 filters, ReLU], max-pool, dense 10 on 32x32x1 images.

    Attributes:
        filters: channels of each convolution.
        kernel_size: height and width of the convolutions, in pixels.

    Source:
        "Exploring the Superhero Role of 2D Batch Normalization in Deep Learning Architectures"
        (Devanagari digits).
    """

    name: Literal["three_conv"]
    filters: Annotated[
        tuple[PositiveInt, PositiveInt, PositiveInt],
        whole("a list of three positive integers", _CHANNELS),
    ] = (16, 16, 16)


class OneConv(_ImageNetwork):
    """conv 3x3 of 16 filters, ReLU, max-pool, dense 10 on 32x32x1 images.

    Attributes:
        filters: channels of the convolution.
        kernel_size: height and width of the convolution, in pixels.

    Source:
        As of `ThreeConv`.
    """

    name: Literal["one_conv"]
    filters: OneBlock = (16,)


class Conv1D(ModelParameters):
    """conv of 64 filters over 3 of 128 steps x 256 features; or a classifier.

    Bare as in the source, or a classifier of padded sequences.

    Attributes:
        activation: after the convolution; null is ReLU in the classifier and none in the bare
            example.
        filters: channels of the convolution.
        kernel_size: steps that the convolution spans.
        mask_value: a step whose features all equal this is padding (classifier only).

    Source:
        The usual Conv1D example: input (128, 256), 64 filters over 3 steps, BN.
    """

    published_input_shape: ClassVar = (128, 256)
    axes: ClassVar = ("steps", "features")
    view: ClassVar = "rows"
    published_classes: ClassVar = None

    name: Literal["conv1d"]
    input_shape: SequenceShape | None = None
    activation: Activation | None = None
    filters: OneBlock = (64,)
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
            raise ValueError(
                f"expected an input_shape of at least kernel_size = {self.kernel_size} steps, got "
                f"{list(self.input_shape)}. Use longer sequences, a smaller kernel_size, or null "
                "steps for any length."
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


def _is_own(values: Any) -> str:
    name = values.get("name") if isinstance(values, dict) else getattr(values, "name", None)
    return "own" if isinstance(name, str) and ":" in name else "zoo"


# A config's `model` section: the schema is chosen by `name`.
_Zoo = Annotated[Conv1D | Dense | LeNet | OneConv | ThreeConv, Field(discriminator="name")]
Model = Annotated[
    Annotated[_Zoo, Tag("zoo")] | Annotated[OwnModel, Tag("own")], Discriminator(_is_own)
]


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
        known = f"There are {', '.join(MODEL_NAMES)}."
        hint = f"{nearest(name, MODEL_NAMES)} {known}".strip()
        raise InputError(f"expected the name of a model, got {name!r}. {hint}")
    return check(MODEL_SCHEMAS[name], {"name": name, **parameters}, source=name)


def _matches(model: tuple[int | None, ...], data: tuple[int | None, ...]) -> bool:
    """Tell whether a model of one shape takes data of another; `None` in a model takes any size."""
    return len(model) == len(data) and all(
        size is None or size == found for size, found in zip(model, data, strict=True)
    )
