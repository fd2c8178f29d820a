"""The networks that bench_model.py trains, with any batch normalization in them or none.

They are the zoo's and those of `keras.applications`, which Keras 2 (`tf_keras`) has as well.
"""

import importlib
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import keras

import bnzoo.models
from bnzoo.models import blocks


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        network: a name that `bnzoo.models.build` or `keras.applications` knows.
        shape: of one example.
        batch: examples in a step.
        parameters: of the zoo's builder.
        xla: compile the step.
        target: least speed against Keras' layer.
        steps: measured in one call of `fit`.
    """

    network: str
    shape: tuple[int, ...]
    batch: int
    parameters: dict = field(default_factory=dict)
    xla: bool = False
    target: float | None = None
    steps: int = 8

    @property
    def of_keras(self) -> bool:
        """Whether it is a network of `keras.applications`, with a step of 0.1 s to 3 s."""
        return hasattr(keras.applications, self.network)

    @property
    def name(self) -> str:
        """What the table calls it."""
        size = f" {self.shape[0]} px" if self.of_keras else ""
        return f"{self.network}{size}, batch {self.batch}, {'jit' if self.xla else 'graph'}"


ROWS = {"classes": 10}
CASES = (
    Case("three_conv", (32, 32, 1), 128, target=1.6),
    Case("three_conv", (32, 32, 1), 32, target=1.2),
    Case("lenet", (32, 32, 3), 128),
    Case("conv1d", (128, 256), 64, ROWS),
    Case("dense", (784,), 32),
    Case("three_conv", (32, 32, 1), 32, xla=True, target=0.95),
    Case("conv1d", (128, 256), 64, ROWS, xla=True, target=0.95),
    Case("dense", (784,), 32, xla=True, target=0.95),
    Case("MobileNetV2", (160, 160, 3), 32, steps=2),
    Case("MobileNetV2", (96, 96, 3), 16, steps=2),
    Case("ResNet50", (160, 160, 3), 32, steps=1),
    Case("ResNet50", (32, 32, 3), 128, steps=2),
    Case("DenseNet121", (96, 96, 3), 16, steps=2),
    Case("EfficientNetV2B0", (96, 96, 3), 16, steps=2),
)


class KerasLayer(keras.layers.BatchNormalization):
    """Keras' layer, with the arguments that ours has beside Keras'."""

    def __init__(self, implementation=None, virtual_batch_size=None, **arguments):
        arguments.pop("unbiased_moving_variance", None)
        super().__init__(**arguments)


class NoLayer(keras.layers.Layer):
    """Takes what a normalization layer takes, and returns it."""

    def call(self, inputs, mask=None):
        """Return the inputs."""
        return inputs


def build(case: Case, layer: type | None) -> keras.Model:
    """Build a network with a kind of normalization layer, or None: without."""
    keras.utils.set_random_seed(0)
    if case.of_keras:
        return with_layer(application(keras.applications, case), layer)
    ours = blocks.BatchNormalization
    blocks.BatchNormalization = layer or ours
    try:
        placement = "before" if layer else "none"
        return bnzoo.models.build(
            case.network, placement, input_shape=case.shape, **case.parameters
        )
    finally:
        blocks.BatchNormalization = ours


def application(applications, case: Case):
    """Build a network of `keras.applications`, or of `tf_keras.applications`, as it is."""
    return getattr(applications, case.network)(
        weights=None, input_shape=case.shape, classes=10, classifier_activation=None
    )


def with_layer(model: keras.Model, layer: type | None) -> keras.Model:
    """Build a model again with another class in place of Keras' batch normalization."""

    def renew(old):
        kind = type(old)
        if isinstance(old, keras.layers.BatchNormalization):
            if layer is None:
                return NoLayer(name=old.name)
            kind = layer
        return kind.from_config(old.get_config())

    return keras.models.clone_model(model, clone_function=renew)


def normalized_bytes(model: keras.Model, layer: type, batch: int) -> int:
    """Return how much the normalization layers of a model take in, in float32."""
    # The output has the input's shape, and is one tensor where a mask comes with the input.
    shapes = [one.output.shape[1:] for one in model.layers if isinstance(one, layer)]
    return sum(4 * batch * math.prod(shape) for shape in shapes)


def layer_of(checkout: Path) -> type:
    """Import the layer of another checkout of bnzoo, beside the one that is imported already."""

    def leave() -> dict:
        names = [name for name in sys.modules if name.partition(".")[0] == "bnzoo"]
        return {name: sys.modules.pop(name) for name in names}

    ours = leave()
    sys.path.insert(0, str(checkout))
    try:
        return importlib.import_module("bnzoo.layers").BatchNormalization
    finally:
        sys.path.pop(0)
        leave()
        sys.modules.update(ours)
