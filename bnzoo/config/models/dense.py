"""Fully connected networks: `dense`, `sigmoid_mlp` and `f1`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bnzoo.config.models.parameters import UNITS, Activation, Initialization, ModelParameters
from bnzoo.config.section import PositiveInt, whole

Units = Annotated[
    tuple[PositiveInt, ...], Field(min_length=1), whole("a list of positive integers", UNITS)
]


class Dense(ModelParameters):
    """dense 64, ReLU, dense 10 on 784 pixels.

    Attributes:
        units: of each hidden layer.

    Source:
        The usual first example on MNIST: 784 - 64 - BN - ReLU - 10.
    """

    published_input_shape: ClassVar = (784,)
    published_count: ClassVar = 51_146

    name: Literal["dense"]
    units: Units = (64,)


class SigmoidMLP(Dense):
    """3 x [dense 100, sigmoid], dense 10 on 784 pixels.

    Source:
        Ioffe and Szegedy 2015, section 4.1 (MNIST): small Gaussian initial weights. Their scale is
        not stated; with N(0, 0.1) the figure comes out.
    """

    published_count: ClassVar = 100_910

    name: Literal["sigmoid_mlp"]
    units: Units = (100, 100, 100)
    activation: Activation = "sigmoid"
    initialization: Initialization = "normal"


class F1(Dense):
    """5 x [dense 512, ReLU], dense 10 on 784 pixels.

    Source:
        Hoffer et al. 2017, network F1 (MNIST); sizes from the authors' `models/mnist_f1.py` in
        eladhoffer/bigBatch, whose batch normalization stands before the activation.
    """

    published_count: ClassVar = 1_467_914

    name: Literal["f1"]
    units: Units = (512, 512, 512, 512, 512)
