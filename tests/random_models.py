"""Random small models with batch normalization wherever it can be, for property-based tests.

A `Spec` says all of a model, so that it can be built again: in float64, or with a known number of
time steps.
"""

import dataclasses

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers
from marks import KERAS_HAS_RENORM
from normalized_models import with_statistics

import bnzoo

SHAPES = {
    "vector": (5,),
    "sequence": (6, 3),
    "unknown": (6, 3),  # in the data; the model is told None
    "masked": (6, 3),
    "image": (6, 5, 3),
}
CLASSES = {"keras": layers.BatchNormalization, "bnzoo": bnzoo.BatchNormalization}
OPTIONS = [
    {},
    {"axis": 1},
    {"momentum": 0.5, "epsilon": 1e-2},
    {"center": False},
    {"scale": False},
    {"trainable": False},
]
RENORM = [{"renorm": True, "renorm_clipping": {"rmax": 2.0}}]
OURS = [
    *RENORM,
    {"virtual_batch_size": 3},
    {"unbiased_moving_variance": True},
    {"momentum": None},
    {"frozen_statistics": True},
    {"virtual_batch_size": 2, "axis": 1, "momentum": None},
    {"implementation": "reference"},
]
BLOCKS = {
    "vector": ("linear", "residual", "shared", "nested", "nested_twice", "alone"),
    "sequence": ("linear", "residual", "shared", "nested", "nested_twice", "alone", "in_time",
                 "model_in_time", "bidirectional", "cell", "pooled"),
    "unknown": ("linear", "residual", "shared", "nested", "alone", "in_time", "model_in_time",
                "bidirectional", "cell"),
    "masked": ("linear", "residual", "shared", "alone", "in_time", "model_in_time",
               "bidirectional"),
    "image": ("linear", "residual", "shared", "nested", "nested_twice", "alone", "in_time",
              "pooled", "augmented"),
}  # fmt: skip
LINEAR = {
    "vector": ("dense",),
    "masked": ("dense",),  # Keras' convolutions take no masks
    "sequence": ("dense", "conv", "depthwise", "separable", "transposed"),
    "unknown": ("dense", "conv", "depthwise", "separable"),
    "image": ("dense", "conv", "depthwise", "separable", "transposed"),
}
PLACEMENTS = ("before", "after", "both", "first", "none")


@dataclasses.dataclass(frozen=True)
class Block:
    """One block: its kind, linear layer and width, where its normalization is, and which."""

    kind: str
    linear: str
    width: int
    placement: str
    norm: tuple  # of a name of CLASSES and options
    bias: bool


@dataclasses.dataclass(frozen=True)
class Spec:
    """A model and the data that it is given."""

    inputs: str
    blocks: tuple
    head: tuple
    second_input: bool
    two_outputs: bool
    policy: str
    subclassed: bool
    offset: float
    sizes: tuple


def norm_specs():
    theirs = OPTIONS + RENORM * KERAS_HAS_RENORM
    return st.one_of(
        st.tuples(st.just("keras"), st.sampled_from(theirs)),
        st.tuples(st.just("bnzoo"), st.sampled_from(OPTIONS + OURS)),
    )


@st.composite
def specs(draw):
    inputs = draw(st.sampled_from(sorted(SHAPES)))
    blocks = st.builds(
        Block,
        kind=st.sampled_from(BLOCKS[inputs]),
        linear=st.sampled_from(LINEAR[inputs]),
        width=st.sampled_from([1, 2, 3, 4, 7]),
        placement=st.sampled_from(PLACEMENTS),
        norm=norm_specs(),
        bias=st.booleans(),
    )
    return Spec(
        inputs,
        tuple(draw(st.lists(blocks, min_size=1, max_size=4))),
        draw(norm_specs()),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from(["float32", "float32", "mixed_float16", "mixed_bfloat16"])),
        draw(st.sampled_from([False, False, False, True])),
        draw(st.sampled_from([0.0, 3.0, 100.0])),
        draw(st.sampled_from([(8,), (5, 3, 6), (1, 7), (4, 4), (2, 2, 9)])),
    )


def build(spec, unknown_time=True):
    """Build a model under the policy that is set; its normalization has numbers as names.

    `unknown_time=False` makes an unknown number of time steps that of the data.
    """
    norm = Norms(spec)
    shape = (None, 3) if spec.inputs == "unknown" and unknown_time else SHAPES[spec.inputs]
    inputs = [keras.Input(shape)]
    x = layers.Masking()(inputs[0]) if spec.inputs == "masked" else inputs[0]
    for block in spec.blocks:
        x = KINDS[block.kind](x, block, norm)
    x = pooled(x)
    if spec.second_input:
        inputs.append(keras.Input((4,)))
        x = layers.Concatenate()([x, norm(spec.head)(layers.Dense(3)(inputs[1]))])
    outputs = [layers.Dense(2)(x)]
    if spec.two_outputs:
        outputs.append(norm(spec.head)(layers.Dense(3)(x)))
    model = keras.Model(*(each if len(each) > 1 else each[0] for each in (inputs, outputs)))
    if spec.subclassed:
        model = Network(model)
        model(data(spec, 2))
    return with_statistics(model)


def data(spec, count=None):
    """Return inputs of a model; with masks, some positions and whole examples are left out."""
    random, count = np.random.default_rng(3), count or sum(spec.sizes)
    # In half precision what is left of values far from zero is their rounding.
    offset = spec.offset if spec.policy == "float32" else 0.0
    x = random.normal(offset, 2.0, (count, *SHAPES[spec.inputs])).astype("float32")
    if spec.inputs == "masked":
        lengths = random.integers(1, 7, count)
        x *= (np.arange(6) < lengths[:, np.newaxis])[..., np.newaxis]
        x[0] += 1.0
    second = random.normal(size=(count, 4)).astype("float32")
    return (x, second) if spec.second_input else x


class Network(keras.Model):
    """A subclassed model around a functional one."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def call(self, inputs, training=None):
        return self.body(inputs, training=training)


class Norms:
    """Makes batch normalization, one number after the other."""

    def __init__(self, spec):
        # A time step that is masked in a whole batch has no statistics: float16 overflows there.
        overflows = spec.inputs == "masked" and spec.policy == "mixed_float16"
        self._last_axis, self._count = spec.inputs == "unknown" or overflows, 0

    def __call__(self, norm, last_axis=False):
        name, options = norm
        if last_axis or self._last_axis:
            options = {key: value for key, value in options.items() if key != "axis"}
        self._count += 1
        return CLASSES[name](**options, name=f"norm_{self._count}")


@keras.saving.register_keras_serializable("bnzoo tests")
class Cell(layers.Layer):
    """A recurrent cell with batch normalization in the way of its state."""

    def __init__(self, units, norm, norm_name, **options):
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units
        self.arguments = {"units": units, "norm": norm, "norm_name": norm_name}
        self.dense, self.norm = layers.Dense(units), CLASSES[norm[0]](**norm[1], name=norm_name)

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1] + self.units))
        self.norm.build((None, self.units))

    def call(self, inputs, states, training=None):
        both = keras.ops.concatenate([inputs, states[0]], -1)
        state = keras.ops.tanh(self.norm(self.dense(both), training=training))
        return state, [state]

    def get_config(self):
        return super().get_config() | self.arguments


def linear(x, block, width=None):
    """Return a new linear layer for a tensor, which keeps its places and has `width` channels."""
    width, options = width or block.width, {"use_bias": block.bias}
    if block.linear == "dense":
        return layers.Dense(width, **options)
    of = {3: "1D", 4: "2D"}[len(x.shape)]
    options |= {"kernel_size": 2, "padding": "same"}
    if block.linear == "depthwise":
        return getattr(layers, f"DepthwiseConv{of}")(depth_multiplier=2, **options)
    name = {"conv": "Conv{}", "separable": "SeparableConv{}", "transposed": "Conv{}Transpose"}
    return getattr(layers, name[block.linear].format(of))(width, **options)


def stack(x, block, norm, width=None):
    """Linear layer, activation and normalization in the block's order."""
    if block.placement == "first":
        x = layers.ReLU()(norm(block.norm)(x))
    x = linear(x, block, width)(x)
    if block.placement in ("before", "both"):
        x = norm(block.norm)(x)
    x = layers.Activation("tanh" if block.bias else "relu")(x)
    return norm(block.norm)(x) if block.placement in ("after", "both") else x


def residual(x, block, norm):
    x = stack(x, block, norm)
    block = dataclasses.replace(block, linear="dense" if block.linear == "dense" else "conv")
    return layers.Add()([x, stack(x, block, norm, x.shape[-1])])


def shared(x, block, norm):
    """One layer used twice, behind itself."""
    layer, dense = norm(block.norm), layers.Dense(x.shape[-1])
    return layer(dense(layer(x)))


def inner(x, block, norm, width=None):
    inputs = keras.Input(x.shape[1:])
    return keras.Model(inputs, stack(inputs, block, norm, width))


def nested(x, block, norm):
    return inner(x, block, norm)(x)


def nested_twice(x, block, norm):
    block = dataclasses.replace(block, linear="dense")
    model = inner(x, block, norm, x.shape[-1])
    return layers.Dropout(0.5)(model(model(x)))


def alone(x, block, norm):
    """Two of them in a row, without a linear layer."""
    return norm(block.norm)(layers.Dropout(0.3)(norm(block.norm)(x)))


def in_time(x, block, norm):
    return layers.TimeDistributed(norm(block.norm, len(x.shape) == 3))(x)


def model_in_time(x, block, norm):
    inputs = [keras.Input(x.shape[2:]), layers.Dense(block.width, use_bias=block.bias)]
    return layers.TimeDistributed(keras.Sequential([*inputs, norm(block.norm, True)]))(x)


def bidirectional(x, block, norm):
    return norm(block.norm)(layers.Bidirectional(layers.GRU(2, return_sequences=True))(x))


def cell(x, block, norm):
    made = norm(block.norm, True)
    name, options = block.norm
    options = {key: value for key, value in options.items() if key != "axis"}
    return layers.RNN(Cell(block.width, [name, options], made.name), return_sequences=True)(x)


def pooling(x, block, norm):
    x = stack(x, block, norm)
    of = {3: "1D", 4: "2D"}[len(x.shape)]
    kind = "MaxPooling" if block.bias else "AveragePooling"
    return getattr(layers, kind + of)(2, strides=1)(x)


def augmented(x, block, norm):
    return layers.GaussianNoise(1.0)(layers.RandomFlip()(stack(x, block, norm)))


def pooled(x):
    if len(x.shape) == 2:
        return x
    return (layers.GlobalAveragePooling1D if len(x.shape) == 3 else layers.Flatten)()(x)


KINDS = {
    "linear": stack,
    "residual": residual,
    "shared": shared,
    "nested": nested,
    "nested_twice": nested_twice,
    "alone": alone,
    "in_time": in_time,
    "model_in_time": model_in_time,
    "bidirectional": bidirectional,
    "cell": cell,
    "pooled": pooling,
    "augmented": augmented,
}
