"""What a config says of functions of the user's own: a model, a data set, a loss, metrics."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field

from bnzoo import own_code
from bnzoo.config.batch_norm import BatchNorm
from bnzoo.config.section import PositiveInt, Section
from bnzoo.errors import InputError

MODEL_ARGUMENTS = ("input_shape", "classes", "placement", "batch_norm")
DATA_ARGUMENTS = ("batch_size", "seed")
BACKBONES = ("keras.applications:", "keras_hub.")
"""What only knows batch normalization before the activation; `replace_batch_norm` takes it out."""

BACKBONE_PARAMS = ("replace_batch_norm",)
"""What bnzoo itself takes from `model.params` of a backbone."""


def checked_reference(name: str) -> str:
    """Return a name if it has the form of a reference.

    Raises:
        ValueError: it has not.
    """
    if not own_code.is_reference(name):
        raise ValueError(
            f"expected a function of your own as {own_code.EXAMPLE}, got {name!r}. Write the file "
            "with .py, or the module with its package, then a colon and the function."
        )
    return name


# The pattern is for editors, which must tell it from the names of the zoo.
Reference = Annotated[
    str, AfterValidator(checked_reference), Field(json_schema_extra={"pattern": ":"})
]


class OwnModel(Section):
    """A model of your own: `my_models.py:build`, `package.module:build`, or a backbone.

    A backbone is one of `keras.applications:MobileNetV2`, or of KerasHub where it is installed. Its
    batch normalization becomes `bnzoo.BatchNormalization`; `placement: none` takes it out, and
    `params: {replace_batch_norm: false}` leaves it as it is.

    Attributes:
        name: the function, which returns a `keras.Model`. It is called with those of `input_shape`,
            `classes`, `placement`, `batch_norm` and the `params` that it takes.
        placement: given to the function as it is.
        batch_norm: arguments of the layers that the function's `batch_norm()` makes, one each call.
        input_shape: shape of one sample, without the batch; null takes the data's.
        classes: number of outputs; null takes the number of classes of the data.
        params: more arguments of the function.
    """

    name: Reference
    placement: Literal["none", "before", "after"] = "before"
    batch_norm: BatchNorm = BatchNorm()
    input_shape: Any = None
    classes: PositiveInt | None = None
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def is_backbone(self) -> bool:
        """Whether it is a network of Keras, whose batch normalization is replaced."""
        return self.name.startswith(BACKBONES)

    def check_axes(self, input_shape: Any) -> None:
        """Take data of any shape: the function decides."""

    def resolved(self, input_shape: Any = None, classes: int | None = None) -> Self:
        """Fill the sizes left open with the data's."""
        sizes = {
            "input_shape": self.input_shape or input_shape,
            "classes": self.classes or classes,
        }
        return self.model_copy(update=sizes)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the function and its arguments, without running its file."""
        own = BACKBONE_PARAMS if self.is_backbone else ()
        given = {key: value for key, value in self.params.items() if key not in own}
        found = list(function_problems(self.name, MODEL_ARGUMENTS, given, "model.params"))
        yield from found
        if self.is_backbone and self.placement == "after":
            yield (
                f"model.placement: expected none or before for {self.name}, whose layers are as "
                "published, got 'after'. Choose one of the two."
            )
        if not found and not self.is_backbone:  # what it does not take would change nothing
            defaults = type(self)(name=self.name)
            changed = {
                key: value
                for key in MODEL_ARGUMENTS
                if (value := getattr(self, key)) != getattr(defaults, key)
            }
            taken = (*MODEL_ARGUMENTS, *given)
            yield from function_problems(self.name, taken, changed, "model")


def function_problems(
    reference: str, offered: tuple[str, ...] | None, given: dict[str, Any], where: str
) -> Iterator[str]:
    """Yield what is wrong with a function, without running its file.

    Args:
        reference: to it.
        offered: arguments that bnzoo passes; None where Keras calls it.
        given: arguments that the config gives.
        where: the key of the config that holds them.
    """
    try:
        own_code.check(reference, offered, given, where)
    except InputError as error:
        name = where.replace("params", "name") if where != "model" else "model.name"
        key = "" if str(error).startswith(where) else f"{name}: "
        yield f"{key}{error}"
