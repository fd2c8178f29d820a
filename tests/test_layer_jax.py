"""The layer and its maths on JAX, in a process where importing TensorFlow fails.

Keras chooses its backend when it is first imported, so this file runs itself in a process of its
own and writes down what came out.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax_batches
import numpy as np
import pytest
from batch_norm_reference import EPSILON, Problem, batch_norm

PROBLEMS = {
    "matrix": {"shape": (7, 3)},
    "image": {"shape": (2, 3, 2, 2)},
    "masked": {"shape": (3, 4, 2), "mask_shape": (3, 4, 1)},
    "masked_channels_first": {"shape": (3, 2, 4), "axis": 1, "mask_shape": (3, 1, 4)},
    "mean_only": {"shape": (5, 2), "outputs": ("mean",)},
    "variance_only": {"shape": (5, 2), "outputs": ("variance",)},
}


class NoTensorFlow:
    """Make `import tensorflow` fail, as on a machine without it."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            raise ImportError(f"{name} is blocked in this test")


def derivatives(problem, compile_it, implementation="auto"):
    """Return outputs, first gradients and second gradients in float64."""
    import jax
    from keras import ops

    from bnzoo.ops import Settings
    from bnzoo.ops import batch_norm as our_batch_norm

    def outputs_of(x, gamma, beta):
        mask = None if problem.mask is None else ops.convert_to_tensor(problem.mask)
        settings = Settings(problem.axis, EPSILON, "float64", implementation)
        return our_batch_norm(x, gamma, beta, mask, settings)[:3]

    def loss(*tensors):
        return problem.loss(*outputs_of(*tensors))

    first = jax.grad(loss, argnums=(0, 1, 2))

    def projected(*tensors):
        pairs = zip(first(*tensors), problem.directions, strict=True)
        return sum((part * direction).sum() for part, direction in pairs)

    functions = outputs_of, first, jax.grad(projected, argnums=(0, 1, 2))
    if compile_it:
        functions = [jax.jit(function) for function in functions]
    tensors = [ops.convert_to_tensor(array, "float64") for array in problem.arrays]
    return [[np.asarray(part).tolist() for part in function(*tensors)] for function in functions]


def train():
    """Fit a masked model for one step and check what moved."""
    import keras

    from bnzoo.layers import BatchNormalization

    x = np.random.default_rng(0).normal(3.0, 2.0, size=(8, 5, 4)).astype("float32")
    x[:, 3:] = 0
    layer = BatchNormalization(momentum=0.0)
    layers = [keras.Input((5, 4)), keras.layers.Masking(), layer, keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    history = model.fit(x, x[:, 0, :1], batch_size=8, epochs=2, verbose=0)
    counted = x[:, :3].reshape(-1, 4)
    return {
        "losses": history.history["loss"],
        "mean": float(np.abs(np.asarray(layer.moving_mean) - counted.mean(0)).max()),
        "variance": float(np.abs(np.asarray(layer.moving_variance) - counted.var(0)).max()),
        "gamma_moved": bool(np.abs(np.asarray(layer.gamma) - 1).max() > 0),
    }


def mixed_and_renorm():
    """Return dtypes of outputs and weights in a mixed policy, and whether renorm stays finite."""
    import keras

    from bnzoo.layers import BatchNormalization

    layer = BatchNormalization(dtype="mixed_bfloat16", renorm=True)
    outputs = layer(np.ones((4, 3), "float32"), training=True)
    dtypes = {keras.backend.standardize_dtype(weight.dtype) for weight in layer.weights}
    finite = bool(np.isfinite(np.asarray(outputs, "float32")).all())
    return [keras.backend.standardize_dtype(outputs.dtype), sorted(dtypes), finite]


def refusal():
    """Return the message of a layer that asks for tf.distribute."""
    from bnzoo.layers import BatchNormalization

    try:
        BatchNormalization(synchronized=True)
    except ValueError as error:
        return str(error)
    return "accepted"


def main(path):
    """Run everything on JAX and write the results as JSON."""
    sys.meta_path.insert(0, NoTensorFlow())
    import jax
    import keras

    results = {
        "beyond": jax_batches.beyond_the_bounds(),
        "different": jax_batches.ghosts_and_cumulative(),
        "moved": jax_batches.moved_by_bad_batches(),
        "bad": jax_batches.count_bad_batches(),
        "train": train(),
        "mixed": mixed_and_renorm(),
        "refusal": refusal(),
    }
    jax.config.update("jax_enable_x64", True)
    for name, arguments in PROBLEMS.items():
        results[name] = derivatives(Problem(**arguments), compile_it=True)
    # Not compiled, JAX takes seconds for each: one is enough.
    results["matrix_eager"] = derivatives(Problem(**PROBLEMS["matrix"]), compile_it=False)
    results["image_reference"] = derivatives(Problem(**PROBLEMS["image"]), True, "reference")
    results["backend"] = keras.backend.backend()
    results["tensorflow"] = [name for name in sys.modules if name.split(".")[0] == "tensorflow"]
    Path(path).write_text(json.dumps(results))


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    pytest.importorskip("jax")
    path = tmp_path_factory.mktemp("jax") / "results.json"
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "KERAS_BACKEND": "jax"}
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(path.read_text())


def test_nothing_needs_tensorflow(on_jax):
    assert on_jax["backend"] == "jax"
    assert on_jax["tensorflow"] == []


@pytest.mark.parametrize("name", [*PROBLEMS, "matrix_eager", "image_reference"])
def test_values_and_gradients_are_those_of_the_formula(name, on_jax):
    name_of_problem = name.removesuffix("_eager").removesuffix("_reference")
    problem = Problem(**PROBLEMS[name_of_problem])
    outputs, first, second = on_jax[name]
    expected = batch_norm(*problem.arrays, problem.mask, problem.axis)
    # Float64 rounding; the second order against central differences good to about 1e-9.
    for actual, wanted, rtol, atol in (
        (outputs, expected, 1e-10, 1e-11),
        (first, problem.gradient(), 1e-10, 1e-11),
        (second, problem.second_gradient(), 1e-6, 1e-7),
    ):
        for one, other in zip(actual, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def test_every_offset_and_odd_data_stay_exact(on_jax):
    assert on_jax["beyond"] == {}


def test_ghosts_and_cumulative_averages(on_jax):
    # float32 sums in another order, of outputs up to 3.
    assert max(on_jax["different"].values()) < 1e-5, on_jax["different"]


def test_bad_batches_move_nothing_and_show(on_jax):
    assert on_jax["moved"] == []


def test_the_callback_counts_on_jax_too(on_jax):
    assert on_jax["bad"]["counts"] == [[1, 1], [1, 1]]
    assert on_jax["bad"]["same"]


def test_one_training_step_moves_the_statistics_and_the_weights(on_jax):
    result = on_jax["train"]
    assert result["losses"][1] < result["losses"][0]
    assert result["mean"] < 1e-5
    assert result["variance"] < 1e-5
    assert result["gamma_moved"]


def test_mixed_precision_keeps_float32_weights(on_jax):
    assert on_jax["mixed"] == ["bfloat16", ["float32"], True]


def test_synchronized_is_refused_as_keras_does(on_jax):
    assert "Received synchronized=True on the jax backend" in on_jax["refusal"]
    assert "only supported with the TensorFlow backend" in on_jax["refusal"]


if __name__ == "__main__":
    main(sys.argv[1])
