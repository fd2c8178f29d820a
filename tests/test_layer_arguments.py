"""What is out of range is refused, with the value that was received."""

import inspect

import keras
import numpy as np
import pytest

from bnzoo.layers import BatchNormalization


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": 1.5}, r"Received axis=1\.5, expected an integer"),
        ({"axis": True}, r"Received axis=True, expected an integer"),
        ({"axis": np.True_}, r"Received axis=np\.True_, expected an integer"),
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
            r"Received unbiased_moving_variance=True with renorm=True, expected at most one",
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
        {"momentum": 1},
        {"momentum": np.float32(0.5)},
        {"epsilon": 0},
        {"renorm": True, "renorm_clipping": {"rmax": 1.0, "rmin": 1.0, "dmax": 0.0}},
        {"renorm_clipping": {"unread": 1.0}},
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
