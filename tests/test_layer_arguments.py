"""What is out of range is refused, with the value that was received."""

import inspect
import re

import keras
import numpy as np
import pytest
from marks import needs_renorm
from pydantic import ValidationError

from bnzoo.config.batch_norm import BatchNorm
from bnzoo.exclusive import EXCLUSIVE
from bnzoo.layers import BatchNormalization

FORBIDDEN = [
    (("renorm", True), ("unbiased_moving_variance", True)),
    (("virtual_batch_size", 4), ("synchronized", True)),
    (("virtual_batch_size", 4), ("renorm", True)),
    (("implementation", "fused"), ("synchronized", True)),
    (("implementation", "fused"), ("virtual_batch_size", 4)),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": 3.7}, r"Received axis=3\.7, expected an integer"),
        ({"axis": True}, r"Received axis=True, expected an integer"),
        ({"axis": np.True_}, rf"Received axis={re.escape(repr(np.True_))}, expected an integer"),
        ({"axis": "last"}, r"Received axis='last', expected an integer"),
        ({"axis": None}, r"Received axis=None, expected an integer"),
        ({"axis": [1, 2]}, r"Received axis=\[1, 2\], expected an integer"),
        ({"momentum": 1.01}, r"Received momentum=1\.01, expected a number from 0 to 1"),
        ({"momentum": -0.1}, r"Received momentum=-0\.1, expected a number from 0 to 1"),
        ({"momentum": float("nan")}, r"Received momentum=nan, expected a number"),
        ({"momentum": "high"}, r"Received momentum='high', expected a number"),
        ({"epsilon": -1e-3}, r"Received epsilon=-0\.001, expected a number that is 0 or greater"),
        ({"epsilon": float("inf")}, r"Received epsilon=inf, expected a number"),
        ({"epsilon": None}, r"Received epsilon=None, expected a number"),
        (
            {"renorm": True, "renorm_momentum": 7},
            r"Received renorm_momentum=7, expected a number from 0 to 1",
        ),
        (
            {"renorm": True, "renorm_clipping": {"max": 2.0}},
            r"Received invalid keys .*: \{'max': 2\.0\}.*\['rmax', 'rmin', 'dmax'\]",
        ),
        ({"renorm": True, "renorm_clipping": 3.5}, r"Received invalid keys .*: 3\.5\."),
        (
            {"renorm": True, "renorm_clipping": {"rmax": 0.25, "rmin": 0.75}},
            r"rmax should be greater than rmin.*Received: rmax=0\.25, rmin=0\.75",
        ),
        (
            {"renorm": True, "renorm_clipping": {"dmax": -2.5}},
            r"dmax should be non-negative.*Received: dmax=-2\.5",
        ),
        (
            {"renorm": True, "unbiased_moving_variance": True},
            r"Received renorm=True with unbiased_moving_variance=True, expected at most one",
        ),
        (
            {"implementation": "cudnn"},
            r"Received implementation='cudnn', expected one of \['auto', 'reference', 'fused'",
        ),
        ({"implementation": None}, r"Received implementation=None, expected one of"),
        (
            {"virtual_batch_size": 1},
            r"Received virtual_batch_size=1, expected an integer of at least 2, or None",
        ),
        ({"virtual_batch_size": 0}, r"Received virtual_batch_size=0, expected an integer"),
        ({"virtual_batch_size": -4}, r"Received virtual_batch_size=-4, expected an integer"),
        ({"virtual_batch_size": 2.5}, r"Received virtual_batch_size=2\.5, expected an integer"),
        ({"virtual_batch_size": True}, r"Received virtual_batch_size=True, expected an integer"),
        ({"virtual_batch_size": "8"}, r"Received virtual_batch_size='8', expected an integer"),
        *(
            (
                dict([one, other]),
                rf"Received {one[0]}={one[1]!r} with {other[0]}={other[1]!r}, expec",
            )
            for one, other in FORBIDDEN
        ),
    ],
)
def test_constructor_names_the_received_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchNormalization(**arguments)


@pytest.mark.parametrize("axis", [3, -4])
def test_build_refuses_an_axis_that_is_not_there(axis):
    message = (
        rf"Axis {axis} is out of bounds for input shape \(None, 5, 6\)\. Received: axis={axis}"
    )
    with pytest.raises(ValueError, match=message):
        BatchNormalization(axis=axis).build((None, 5, 6))
    with pytest.raises(ValueError, match=message):
        BatchNormalization(axis=axis).compute_output_shape((None, 5, 6))


def test_build_refuses_an_unknown_number_of_channels():
    with pytest.raises(
        ValueError, match=r"Received input shape \(2, None\) with axis=-1, expected"
    ):
        BatchNormalization().build((2, None))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mask_shape", [(4,), (4, 3, 2)])
def test_call_refuses_a_mask_of_the_wrong_rank(mask_shape, training):
    message = "mask provided should be one dimension less than the inputs"
    with pytest.raises(ValueError, match=message) as error:
        BatchNormalization()(np.ones((4, 3, 2)), mask=np.ones(mask_shape), training=training)
    assert f"mask.shape={mask_shape}, inputs.shape=(4, 3, 2)" in str(error.value)


def test_call_refuses_a_mask_that_does_not_fit():
    message = (
        r"mask of shape \(4, 5\) for inputs of shape \(4, 3, 2\) with axis=2, expected \(4, 3\)"
    )
    with pytest.raises(ValueError, match=message):
        BatchNormalization()(np.ones((4, 3, 2)), mask=np.ones((4, 5)), training=True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"axis": np.int64(1)},
        {"momentum": 0},
        pytest.param({"synchronized": True, "renorm": True}, marks=needs_renorm),
        {"momentum": 1},
        {"momentum": np.float32(0.5)},
        {"epsilon": 0},
        pytest.param(
            {"renorm": True, "renorm_clipping": {"rmax": 1.0, "rmin": 1.0, "dmax": 0.0}},
            marks=needs_renorm,
        ),
        pytest.param({"renorm_clipping": {"unread": 1.0}}, marks=needs_renorm),
    ],
)
def test_everything_keras_accepts_in_range_is_accepted(arguments):
    ours, theirs = BatchNormalization(**arguments), keras.layers.BatchNormalization(**arguments)
    for name, value in theirs.get_config().items():
        if name not in ("name", "dtype"):
            assert ours.get_config()[name] == value


def test_arguments_stand_in_keras_order():
    ours = inspect.signature(BatchNormalization.__init__).parameters
    theirs = inspect.signature(keras.layers.BatchNormalization.__init__).parameters
    shared = [name for name in ours if name in theirs]
    assert shared == list(theirs)
    assert all(ours[name].default == theirs[name].default for name in theirs)
    assert ours["unbiased_moving_variance"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize(
    "arguments",
    [
        {"momentum": None},
        {"momentum": None, "renorm": True},
        {"momentum": None, "synchronized": True, "unbiased_moving_variance": True},
        {"momentum": None, "virtual_batch_size": 2, "unbiased_moving_variance": True},
        {"virtual_batch_size": np.int64(8), "implementation": "xla"},
        {"synchronized": True, "implementation": "xla"},
        {"synchronized": True, "implementation": "reference"},
        {"renorm": True, "implementation": "fused"},
    ],
    ids=str,
)
def test_what_goes_together_is_accepted_and_works(arguments):
    layer = BatchNormalization(**arguments)
    outputs = layer(np.random.default_rng(0).normal(size=(5, 3, 4)), training=True)
    assert np.isfinite(outputs.numpy()).all()
    again = BatchNormalization.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_every_forbidden_pair_is_tried_here_and_stands_in_the_docstring():
    pairs = {frozenset((one, other)) for one, other, _ in EXCLUSIVE}
    assert {frozenset((one[0], other[0])) for one, other in FORBIDDEN} == pairs
    text = BatchNormalization.__doc__
    assert all(name in text for pair in pairs for name in pair)


def test_a_config_refuses_what_the_layer_refuses():
    for pair in FORBIDDEN:
        with pytest.raises(ValidationError):
            BatchNorm(**dict(pair))


def test_the_defaults_of_a_config_are_the_layers():
    parameters = inspect.signature(BatchNormalization.__init__).parameters
    for name in BatchNorm.model_fields:
        # `synchronized: null` is decided by the run, and false where it is not distributed.
        default = BatchNorm().arguments().get(name, False if name == "synchronized" else None)
        assert default == parameters[name].default, name
    assert {"implementation", "virtual_batch_size", "momentum"} <= set(BatchNorm.model_fields)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"momentum": None},
        {"implementation": "xla", "virtual_batch_size": 4},
        {"epsilon": 1e-5, "synchronized": True, "unbiased_moving_variance": True},
        {"renorm": True, "renorm_clipping": {"rmax": 3.0}, "scale": False},
    ],
    ids=str,
)
def test_the_arguments_of_a_config_make_that_layer(values):
    made = BatchNormalization(**BatchNorm(**values).arguments()).get_config()
    expected = BatchNormalization(**values).get_config()
    assert {**made, "name": ""} == {**expected, "name": ""}
