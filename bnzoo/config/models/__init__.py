"""The models that a config can name, and what each can be told.

No Keras here, so that a config is checked without it. `bnzoo.models` builds what these describe.
"""

from typing import Annotated, Any, Union

from pydantic import Discriminator, Field, Tag

from bnzoo.config.models.conv1d import Conv1D
from bnzoo.config.models.dense import F1, Dense, SigmoidMLP
from bnzoo.config.models.inception import Inception
from bnzoo.config.models.lenet import LeNet
from bnzoo.config.models.parameters import Activation, ModelParameters
from bnzoo.config.models.resnet import ResNet
from bnzoo.config.models.small_conv import OneConv, ThreeConv
from bnzoo.config.models.vgg import VGG
from bnzoo.config.own import OwnModel
from bnzoo.config.problems import check
from bnzoo.errors import InputError, nearest

__all__ = [
    "MODEL_NAMES",
    "MODEL_SCHEMAS",
    "Activation",
    "Model",
    "ModelParameters",
    "model_parameters",
]

MODEL_SCHEMAS: dict[str, type[ModelParameters]] = {
    "conv1d": Conv1D,
    "dense": Dense,
    "f1": F1,
    "inception": Inception,
    "lenet": LeNet,
    "one_conv": OneConv,
    "resnet": ResNet,
    "sigmoid_mlp": SigmoidMLP,
    "three_conv": ThreeConv,
    "vgg": VGG,
}
MODEL_NAMES: tuple[str, ...] = tuple(sorted(MODEL_SCHEMAS))


def _is_own(values: Any) -> str:
    name = values.get("name") if isinstance(values, dict) else getattr(values, "name", None)
    return "own" if isinstance(name, str) and ":" in name else "zoo"


# A config's `model` section: the schema is chosen by `name`.
_Zoo = Annotated[Union[tuple(MODEL_SCHEMAS.values())], Field(discriminator="name")]  # noqa: UP007
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
