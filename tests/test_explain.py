"""`bnzoo explain`: its numbers are the layer's, its refusals are clear, and it is quick."""

import dataclasses

import numpy as np
import pytest
from rich.text import Text

import bnzoo
from bnzoo.reporting.worked_example import BUILT_IN, WIDTH, Settings, explain, work_through


@pytest.fixture
def explained(call):
    """Run `bnzoo explain ARGUMENTS`."""
    return lambda *arguments: call("explain", *arguments)


def layer_of(settings, dtype, **changes):
    channels = {"gamma": settings.gamma, "beta": settings.beta}
    layer = bnzoo.BatchNormalization(
        axis=settings.axis,
        epsilon=settings.epsilon,
        unbiased_moving_variance=settings.unbiased,
        dtype=dtype,
        **{"momentum": settings.momentum} | changes,
    )
    return layer, channels


def ran(settings, batch, dtype, **changes):
    """Return a layer after one training step, and what it gave in training and in inference."""
    layer, channels = layer_of(settings, dtype, **changes)
    layer.build(batch.shape)
    for name, values in channels.items():
        weight = getattr(layer, name)
        weight.assign(np.broadcast_to(values, weight.shape))
    outputs = layer(batch.astype(dtype), training=True).numpy()
    return layer, outputs, layer(batch.astype(dtype), training=False).numpy()


def by_the_layer(batch, settings, dtype="float64"):
    """Return what `work_through` does, but every number measured on layers."""
    layer, outputs, inference = ran(settings, batch, dtype)
    plain = dataclasses.replace(settings, gamma=(1.0,), beta=(0.0,))
    _, normalized, _ = ran(plain, batch, dtype)
    # With momentum 0 the moving averages are those of the batch.
    followed, _, _ = ran(plain, batch, dtype, momentum=0.0)
    biased = dataclasses.replace(plain, unbiased=False)
    statistics, _, _ = ran(biased, batch, dtype, momentum=0.0)
    return work_through(batch, settings) | {
        "mean": statistics.moving_mean.numpy(),
        "variance": statistics.moving_variance.numpy(),
        "unbiased": followed.moving_variance.numpy(),
        "x_hat": np.moveaxis(normalized, settings.axis, -1),
        "y": np.moveaxis(outputs, settings.axis, -1),
        "inference": np.moveaxis(inference, settings.axis, -1),
        "moving_mean": layer.moving_mean.numpy(),
        "moving_variance": layer.moving_variance.numpy(),
    }


def random_batch(shape, offset=0.0):
    return np.random.default_rng(3).normal(offset, 2.0, shape)


CASES = {
    "built-in": (BUILT_IN, Settings(axis=1)),
    "unbiased": (BUILT_IN, Settings(axis=1, unbiased=True, gamma=(1.0, 2.0, -0.5), beta=(0.3,))),
    "random": (random_batch((5, 4)), Settings(epsilon=1e-3, momentum=0.99, gamma=(0.7,))),
    "offset": (random_batch((3, 4, 2), 1e6), Settings(unbiased=True, beta=(1.0, -1.0))),
    "single": (random_batch((1, 3)), Settings(unbiased=True)),
    "momentum": (random_batch((2, 3, 4)), Settings(axis=1, momentum=0.25, epsilon=0.1)),
}


@pytest.mark.parametrize("decimals", [0, 4, 7])
@pytest.mark.parametrize("case", CASES)
def test_every_printed_number_is_the_layers(case, decimals):
    batch, settings = CASES[case]
    worked, measured = work_through(batch, settings), by_the_layer(batch, settings)
    assert explain(worked, settings, decimals) == explain(measured, settings, decimals)


def test_the_built_in_numbers_are_also_those_of_a_float32_layer():
    settings = Settings(axis=1)
    measured = by_the_layer(BUILT_IN, settings, "float32")
    assert explain(work_through(BUILT_IN, settings), settings) == explain(measured, settings)


def test_the_built_in_batch_gives_the_published_numbers(explained):
    code, printed, errors = explained()
    assert (code, errors) == (0, "")
    for numbers in (
        "mean 4.3333 28.6667 88.6667",
        "variance 7.4444 27.5556 30.0000",
        "x_hat[0, :, 0, 0] -1.5882 0.8255 1.3389",
        "moving_mean 0.4333 2.8667 8.8667",
    ):
        assert numbers in " ".join(printed.split())


def test_off_a_terminal_it_is_plain_and_80_columns_wide(explained, tmp_path):
    np.save(tmp_path / "large.npy", random_batch((40, 9, 9, 30), 1e4))
    for arguments in (
        (),
        ("--unbiased", "--gamma", "1,2,3"),
        ("--input", tmp_path / "large.npy", "--decimals", 15),
    ):
        code, printed, _ = explained(*arguments)
        assert code == 0
        assert printed.isascii()
        assert "\x1b" not in printed
        assert max(map(len, printed.splitlines())) <= WIDTH
        assert len(printed.splitlines()) < 250


def test_large_inputs_are_shortened_and_say_so(explained, tmp_path):
    np.save(tmp_path / "large.npy", random_batch((40, 9, 9, 30)))
    printed = explained("--input", tmp_path / "large.npy")[1]
    for text in (
        "... 25 more channels\n",
        "... 3222 more rows\n",
        "n = 3240 values",
    ):
        assert text in printed


def test_formulas_are_python_and_compute_what_is_printed():
    batch, settings = CASES["momentum"]
    settings = dataclasses.replace(settings, axis=1, unbiased=True)
    worked = work_through(batch[:, :1], settings)
    names = {
        "x": worked["x"], "n": worked["x"].size, "sum": np.sum, "sqrt": np.sqrt,
        "gamma": 1.0, "beta": 0.0, "epsilon": settings.epsilon, "momentum": settings.momentum,
        "moving_mean": 0.0, "moving_variance": 1.0,
    }  # fmt: skip
    ys = []
    for line in Text.from_markup(explain(worked, settings)).plain.splitlines():
        if line.startswith("    ") and " = " in line:
            exec(line.strip(), names)
            ys += [names.pop("y")] if "y" in names else []
    assert len(ys) == 2
    np.testing.assert_allclose(ys[0], worked["y"], rtol=1e-12)
    np.testing.assert_allclose(ys[-1], worked["inference"], rtol=1e-12)
    np.testing.assert_allclose(names["moving_variance"], worked["moving_variance"][0], rtol=1e-12)


def test_what_rounds_to_zero_has_no_sign():
    settings = Settings(beta=(-0.001, 0.0, -0.006))
    text = explain(work_through(random_batch((4, 3)), settings), settings, decimals=2)
    assert "beta 0.00 0.00 -0.01" in " ".join(text.split())


def bad_inputs(folder):
    (folder / "text.npy").write_text("mine")
    (folder / "empty_file.npy").write_bytes(b"")
    arrays = {
        "flat": np.arange(3.0),
        "empty": np.zeros((0, 3)),
        "object": np.array([[1, None]]),
        "words": np.array([["a", "b"]]),
        "complex": np.array([[1j, 2]]),
        "nan": np.array([[1.0, np.nan]]),
        "infinite": np.array([[1.0, np.inf]]),
        "constant": np.ones((2, 2)),
        "huge": np.array([[1e300], [-1e300]]),
    }
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values, allow_pickle=True)
    files = {
        "none": "No such file", "text": "expected a .npy file", "empty_file": ".npy file",
        "flat": "[3]", "empty": "[0, 3]", "object": "Object arrays cannot", "words": "<U1",
        "complex": "complex128", "nan": "missing ones in x", "infinite": "missing ones in x",
        "huge": "missing ones in variance",
    }  # fmt: skip
    return [
        *((["--input", folder / f"{name}.npy"], text) for name, text in files.items()),
        (["--input", folder], "Is a directory"),
        (["--input", folder / "constant.npy", "--epsilon", "0"], "above 0"),
        (["--gamma", "1,2"], "or 3 with commas between them (one per channel), got 1,2."),
        (["--beta", "1,x"], "got '1,x'"),
        (["--beta", "nan"], "missing ones in beta"),
        (["--epsilon", "-1"], "got -1"),
        (["--epsilon", "nan"], "got nan"),
        (["--momentum", "1.5"], "got 1.5"),
        (["--axis", "4"], "expected an integer from -4 to 3"),
    ]


def test_bad_input_is_one_clear_error_with_code_2(explained, tmp_path):
    for arguments, message in bad_inputs(tmp_path):
        code, printed, errors = explained(*arguments)
        assert (code, printed) == (2, ""), arguments
        assert errors.startswith("bnzoo explain: --") or "finite numbers" in errors, errors
        assert message in errors, (arguments, errors)
        assert errors.count("\n") == 1
