"""What a fold tells of each batch normalization layer: merged into what, or why not."""

import keras
import numpy as np
import pytest
from keras import layers
from normalized_models import KINDS, make, norms

import bnzoo
from bnzoo.errors import InputError
from bnzoo.layers import MultiplyAdd
from bnzoo.surgery import fold_report

BN = layers.BatchNormalization
BECOMES = "becomes a MultiplyAdd: "


def norm(name="norm", **options):
    return BN(name=name, **options)


def with_values(**values):
    """Return a normalization whose weights have other values than a new one's."""
    initializers = {
        f"{name}_initializer": keras.initializers.Constant(value) for name, value in values.items()
    }
    return norm(**initializers)


def wide(**options):
    return layers.Dense(4, name="wide", **options)


def conv(**options):
    return layers.Conv2D(3, 3, name="conv", **options)


def relu():
    return layers.ReLU(name="relu")


def stack(*middle, shape=(4,)):
    """Return layers between two that merge nothing."""
    first, last = layers.Reshape(shape, name="first"), layers.Softmax(name="last")
    return keras.Sequential([keras.Input(shape), first, *middle, last], name="m")


def told(model):
    """Return what is told of the layer 'norm'."""
    (one,) = (one for one in fold_report(model) if one.path == "norm")
    return one


def image_stack(*middle):
    return stack(*middle, shape=(6, 6, 3))


# --- merged ---------------------------------------------------------------------------------------

MERGED = {
    "into the layer before": (lambda: stack(wide(), norm()), "merged into 'wide'"),
    "past a layer of training": (
        lambda: stack(wide(), layers.Dropout(0.5), norm()),
        "merged into 'wide'",
    ),
    "into the layer behind": (
        lambda: stack(norm(), layers.Flatten(), wide(), shape=(2, 2)),
        "merged into 'wide'",
    ),
    "with the next": (
        lambda: stack(norm(), norm("next")),
        "merged with batch normalization 'next'",
    ),
    "with the next, which is merged": (
        lambda: stack(norm(), norm("next"), wide()),
        "merged with batch normalization 'next'",
    ),
}


@pytest.mark.parametrize("case", MERGED)
def test_it_names_what_takes_up_a_layer(case):
    build, expected = MERGED[case]
    one = told(build())
    assert (one.merged, one.text) == (True, expected)


# --- not merged: because of what the layer is, or of its neighbors --------------------------------

BEFORE = "'first' (Reshape) before it is no plain dense layer or convolution"
BEHIND = "it cannot go past 'last' (Softmax)"


def with_lora():
    model = stack(wide(), norm())
    model.get_layer("wide").enable_lora(2)
    return model


def in_float16():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return stack(wide(kernel_initializer="ones"), with_values(gamma=1e6))
    finally:
        keras.config.set_dtype_policy("float32")


STACKS = {
    "LoRA": (
        with_lora,
        f"'wide' (Dense) before it is no plain dense layer or convolution, and {BEHIND}",
    ),
    "an activation": (
        lambda: stack(wide(activation="relu"), norm()),
        f"'wide' (Dense) before it has its own activation, relu, and {BEHIND}",
    ),
    "another axis than the layer before": (
        lambda: stack(wide(), norm(axis=1), shape=(2, 2)),
        f"'wide' (Dense) has its channels along axis 2, not 1, and {BEHIND}",
    ),
    "another axis than the layer behind": (
        lambda: stack(norm(axis=1), wide(), shape=(2, 2)),
        f"{BEFORE}, and 'wide' (Dense) has its channels along axis 2, not 1",
    ),
    "another axis than the normalization before": (
        lambda: stack(norm("other", axis=1), norm(), shape=(2, 2)),
        f"'other' (BatchNormalization) before it is along another axis, and {BEHIND}",
    ),
    "what keeps the normalization before it": (
        lambda: stack(norm("other"), norm()),
        f"{BEFORE}, and {BEHIND}",
    ),
    "padded borders and no scale": (
        lambda: image_stack(with_values(gamma=0.0, beta=1.0), conv(padding="same")),
        f"{BEFORE}, and a shift cannot go through the padded borders of 'conv' (Conv2D)",
    ),
    "padded averages": (
        lambda: image_stack(
            norm(), layers.AveragePooling2D(2, padding="same", name="pool"), conv()
        ),
        f"{BEFORE}, and a shift cannot go through the padded borders of 'pool' (AveragePooling2D)",
    ),
    "a negative scale before a maximum": (
        lambda: image_stack(with_values(gamma=-1.0), layers.MaxPooling2D(name="pool"), conv()),
        f"{BEFORE}, and a scale that is not positive cannot go past 'pool' (MaxPooling2D)",
    ),
    "a size that is unknown": (
        lambda: stack(norm(), layers.Flatten(data_format="channels_first", name="flat"), wide()),
        f"{BEFORE}, and 'flat' (Flatten) flattens a size that is unknown, or channels_first",
    ),
    "too large for float16": (
        in_float16,
        f"the kernel of 'wide' (Dense) would be too large for float16, and {BEHIND}",
    ),
    "mixed dtypes": (
        lambda: stack(wide(), norm(dtype="mixed_bfloat16")),
        "'norm' (BatchNormalization) turns float32 into bfloat16",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STACKS)
def test_it_tells_why_a_neighbor_cannot_take_up_a_layer(case):
    build, why = STACKS[case]
    one = told(build())
    assert (one.merged, one.text) == (False, BECOMES + why)


PARTLY = {
    "padded borders": (
        lambda: image_stack(norm(), conv(padding="same")),
        f"{BEFORE}, and a shift cannot go through the padded borders of 'conv' (Conv2D)",
    ),
    "a mean far from zero": (
        lambda: stack(with_values(moving_mean=1e4), layers.Dense(4, name="conv")),
        f"{BEFORE}, and its mean is so far from zero that 'conv' (Dense) would lose digits",
    ),
}


@pytest.mark.parametrize("case", PARTLY)
def test_it_tells_where_the_scale_alone_is_merged(case):
    build, why = PARTLY[case]
    one = told(build())
    assert not one.merged
    assert one.text == f"its scale is merged into 'conv', the rest {BECOMES}{why}"


# --- not merged: because of the graph -------------------------------------------------------------


def called_twice(x):
    one = norm()
    return one(wide()(one(x)))


def behind_what_is_called_twice(x):
    one = wide()
    return norm()(one(relu()(one(x))))


def beside_another_user(x):
    x = wide()(x)
    return layers.Add(name="add")([norm()(x), x])


def beside_many_users(x):
    x = wide()(x)
    return layers.Add(name="add")([norm()(x), x, x, x])


def of_an_output(x):
    x = wide()(x)
    return [x, norm()(x)]


def of_an_input(x):
    return relu()(norm()(x))


def of_a_concatenation(x):
    return relu()(norm()(layers.Concatenate(name="concat")([x, wide()(x)])))


def between_operations(x):
    return keras.ops.add(norm()(keras.ops.negative(x)), 1.0)


WHY_IN_GRAPHS = {
    called_twice: "'norm' (BatchNormalization) is called more than once",
    behind_what_is_called_twice: "'wide' (Dense) is called more than once, and the output of "
    "'norm' is an output of model 'm'",
    beside_another_user: "the output of 'wide' is used by 'norm' and 'add', and 'add' (Add) behind "
    "it has other inputs too",
    beside_many_users: "the output of 'wide' is used by 'norm' and 'add' and 2 others, and 'add' "
    "(Add) behind it has other inputs too",
    of_an_output: "the output of 'wide' is an output of model 'm', and the output of 'norm' is an "
    "output of model 'm'",
    of_an_input: "'norm' is fed by an input of model 'm', and it cannot go past 'relu' (ReLU)",
    of_a_concatenation: "'concat' (Concatenate) before it is no plain dense layer or convolution, "
    "and it cannot go past 'relu' (ReLU)",
    between_operations: "'negative' (Negative) before it is no plain dense layer or convolution, "
    "and 'add' (Add) takes or returns more than one value",
}


@pytest.mark.parametrize("connect", WHY_IN_GRAPHS, ids=lambda connect: connect.__name__)
def test_it_tells_how_the_graph_keeps_a_layer(connect):
    keras.utils.clear_session()  # operations are numbered
    inputs = keras.Input((4,))
    one = told(keras.Model(inputs, connect(inputs), name="m"))
    assert (one.merged, one.text) == (False, BECOMES + WHY_IN_GRAPHS[connect])


# --- not touched ----------------------------------------------------------------------------------


class Doubled(BN):
    """A subclass, which does more."""

    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training, mask=mask)


class Around(layers.Layer):
    """A layer that has another one, in two places."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = BN(name="inside")
        self.all = [self.norm]

    def build(self, shape):
        self.norm.build(shape)

    def call(self, inputs):
        return self.norm(inputs)


IN_TIME = "it is inside 'time' (TimeDistributed)"
NO_GRAPH = "which is no built functional or Sequential model"
UNTOUCHED = {
    "in a wrapper": (
        lambda: stack(layers.TimeDistributed(norm(), name="time"), shape=(2, 2)),
        {"time/norm": IN_TIME},
    ),
    "in a model in a wrapper": (
        lambda: stack(layers.TimeDistributed(stack(norm()), name="time"), shape=(2, 4)),
        {"time/m/norm": IN_TIME},
    ),
    "in a layer of one's own, in a nested model": (
        lambda: keras.Sequential([keras.Input((4,)), stack(Around(name="around"))]),
        {"m/around/inside": "it is inside 'around' (Around)"},
    ),
    "of a subclass": (
        lambda: stack(wide(), Doubled(name="doubled")),
        {"doubled": "Doubled is a subclass, which may compute something else"},
    ),
    "in a subclassed model": (
        lambda: make("subclassed", BN),
        dict.fromkeys(
            ("a", "b", "c", "block/d"), f"it is inside 'network' (Network), {NO_GRAPH}"
        ),
    ),
    "in a model that is not built": (
        lambda: keras.Sequential([norm()], name="bare"),
        {"norm": f"it is inside 'bare' (Sequential), {NO_GRAPH}"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNTOUCHED)
def test_it_tells_what_stays_and_why(case):
    build, expected = UNTOUCHED[case]
    keras.utils.clear_session()  # the subclassed model is numbered
    report = fold_report(build())
    assert [one.path for one in report] == list(expected)
    assert [one.merged for one in report] == [False] * len(report)
    assert [one.text for one in report] == [f"stays as it is: {why}" for why in expected.values()]


# --- the report and the model ---------------------------------------------------------------------


def assert_report_agrees(model):
    """Compare the report with the folded model; return what is not merged."""
    folded, report = bnzoo.fold_batch_norm(model, report=True)
    assert report == fold_report(model)
    assert {id(one.layer) for one in report} == {id(layer) for layer in norms(model)}
    now = {layer.name: type(layer) for layer in folded._flatten_layers()}
    for one in report:
        kept = MultiplyAdd if BECOMES in one.text else type(one.layer)
        assert now.get(one.layer.name) is (None if one.merged else kept), one
    return [one for one in report if not one.merged]


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"subclassed"}))
@pytest.mark.parametrize("cls", [BN, bnzoo.BatchNormalization])
def test_it_agrees_with_the_folded_model(kind, cls):
    assert_report_agrees(make(kind, cls))


@pytest.mark.parametrize(("name", "not_merged"), [("MobileNetV2", 0), ("DenseNet121", 62)])
def test_it_agrees_with_whole_networks(name, not_merged):
    """The folder page of surgery has the numbers."""
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(32, 32, 3), classes=2)
    assert len(assert_report_agrees(model)) == not_merged


def test_without_batch_normalization_it_is_empty():
    assert fold_report(stack(wide())) == []


def test_it_leaves_the_model_alone():
    model = stack(with_values(moving_mean=0.5), wide())
    before, graph = model.get_weights(), model.get_config()
    fold_report(model)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert model.get_config() == graph


def test_what_is_no_model_is_refused():
    with pytest.raises(InputError, match=r"Received 'm\.keras', expected a Keras model"):
        fold_report("m.keras")
