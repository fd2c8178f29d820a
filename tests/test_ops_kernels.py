"""Which kernel a call takes: the table row by row, and what cannot be forced."""

import keras
import pytest
import tensorflow as tf
from keras import ops

from bnzoo.layers import BatchNormalization
from bnzoo.ops import kernels

LARGE = (128, 32, 32, 64)


def call(shape=LARGE, **changes):
    options = {"backend": "tensorflow", "xla": False, "gpu": False, "dtype": "float32"}
    options |= {"axis": len(shape) - 1} | changes
    return kernels.Call(shape=shape, **options)


# (what is special, the call, the implementation, a word of the reason)
ROWS = [
    ("jax", call(backend="jax", xla=True), "xla", "JAX"),
    ("another_backend", call(backend="torch"), "reference", "own gradient"),
    ("compiled", call(xla=True), "xla", "loses the variance"),
    ("compiled_with_mask", call(xla=True, masked=True), "xla", "compiles"),
    ("gpu", call(gpu=True), "xla", "GPU"),
    ("gpu_small", call((32, 64), gpu=True), "xla", "GPU"),
    ("gpu_float64", call(gpu=True, dtype="float64"), "reference", "float64"),
    ("gpu_unknown_length", call((None, None, 64), gpu=True), "reference", "every length"),
    ("gpu_unknown_batch", call((None, 8, 8, 64), gpu=True), "xla", "GPU"),
    ("mask", call(masked=True), "reference", "masks"),
    ("replicas", call(synchronized=True), "reference", "replicas"),
    ("replicas_on_gpus", call(synchronized=True, gpu=True), "reference", "replicas"),
    ("ghosts", call(ghosts=True), "reference", "ghost"),
    ("float64", call(dtype="float64"), "reference", "float64"),
    ("six_dimensions", call((4, 8, 8, 8, 8, 64)), "reference", "2 to 5 dimensions"),
    ("one_dimension", call((64,), axis=0), "reference", "2 to 5 dimensions"),
    ("channels_first", call((128, 64, 32, 32), axis=1), "reference", "not last"),
    ("three_channels", call((128, 64, 64, 3)), "reference", "divisible by 4"),
    ("six_channels", call((128, 64, 64, 6)), "reference", "divisible by 4"),
    ("small", call((32, 64)), "reference", "fewer than"),
    ("just_too_small", call((97, 1024)), "reference", "fewer than"),
    ("just_large_enough", call((98, 1024)), "fused", "large"),
    ("float16_of_middle_size", call((128, 1024), dtype="float16"), "reference", "fewer than"),
    ("float16", call((256, 1024), dtype="float16"), "fused", "large"),
    ("bfloat16", call((128, 1024), dtype="bfloat16"), "fused", "large"),
    ("images", call(), "fused", "large"),
    ("volumes", call((8, 16, 16, 16, 32)), "fused", "large"),
    ("small_examples", call((None, 128)), "reference", "fewer than"),
    ("unknown_batch_of_small_images", call((None, 4, 4, 64)), "reference", "fewer than"),
    ("unknown_batch", call((None, 32, 32, 64)), "fused", "large"),
    ("unknown_length", call((None, None, 128)), "fused", "large"),
]


@pytest.mark.parametrize(
    ("given", "implementation", "reason"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_every_row_of_the_table(given, implementation, reason):
    choice = kernels.choose_kernel(given)
    assert choice.implementation == implementation
    assert reason in choice.reason


def test_every_row_is_reached_by_a_test():
    reached = {kernels.choose_kernel(row[1]).reason for row in ROWS}
    assert {reason for _, _, reason in kernels.RULES} == reached


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (call(backend="jax", xla=True), "backend is jax"),
        (call(xla=True), "loses the variance"),
        (call(gpu=True), "no check of its results"),
        (call(masked=True), "no mask"),
        (call(dtype="float64"), "no float64"),
        (call((2, 2, 2, 2, 2, 4)), "this input has 6"),
        (call(), None),
        (call((3, 5, 7)), None),
        (call((4, 6, 5, 5), axis=1), None),
    ],
)
def test_what_the_fused_kernel_cannot_take_at_all(given, why):
    if why is None:
        assert kernels.choose_kernel(given, "fused").implementation == "fused"
    else:
        with pytest.raises(ValueError, match=why):
            kernels.choose_kernel(given, "fused")


@pytest.mark.parametrize(
    ("shape", "options", "why"),
    [
        ((4, 3, 8), {"mask": tf.constant([[True, True, False]] * 4)}, "it knows no mask"),
        ((2, 2, 2, 2, 2, 4), {}, "this input has 6"),
    ],
)
def test_a_forced_choice_that_cannot_be_honored_says_why(shape, options, why):
    layer = BatchNormalization(implementation="fused")
    with pytest.raises(ValueError, match=why) as error:
        layer(tf.ones(shape), training=True, **options)
    message = str(error.value)
    assert "Received implementation='fused' for inputs of shape" in message
    assert str(shape) in message
    assert "Use implementation='auto'" in message


def test_float64_cannot_be_forced_into_the_fused_kernel():
    with pytest.raises(ValueError, match=r"dtype float64.*it has no float64"):
        BatchNormalization(implementation="fused", dtype="float64")(tf.ones((4, 8)), training=True)


def test_what_xla_compiles_cannot_be_forced_into_the_fused_kernel():
    layer = BatchNormalization(implementation="fused")
    layer.build((None, 8))
    step = tf.function(lambda x: layer(x, training=True), jit_compile=True)
    with pytest.raises(ValueError, match="XLA compiles this call"):
        step(tf.ones((4, 8)))


def test_a_forced_layer_still_infers_everywhere():
    layer = BatchNormalization(implementation="fused")
    layer.build((None, 3, 8))
    step = tf.function(lambda x: layer(x), jit_compile=True)
    assert step(tf.ones((2, 3, 8))).shape == (2, 3, 8)


@pytest.mark.parametrize("implementation", ["reference", "xla", "fused"])
def test_a_person_is_told_of_a_forced_choice(implementation):
    layer = BatchNormalization(implementation=implementation)
    choice = layer.implementation_for(keras.Input((32, 32, 64)))
    assert choice == (implementation, "the layer's `implementation` argument")


def test_a_person_can_ask_which_way_an_input_takes():
    layer = BatchNormalization()
    assert layer.implementation_for(keras.Input((32, 32, 64))).implementation == "fused"
    assert layer.implementation_for(tf.TensorSpec([32, 64])).implementation == "reference"
    assert layer.implementation_for(tf.ones((200, 1024))).implementation == "fused"
    mask = tf.ones((200,), "bool")
    asked = layer.implementation_for(tf.ones((200, 1024)), mask)
    assert (asked.implementation, "masks" in asked.reason) == ("reference", True)
    assert layer.implementation_for(keras.Input((1024,))).implementation == "reference"
    with pytest.raises(ValueError, match="it knows no mask"):
        BatchNormalization(implementation="fused").implementation_for(tf.ones((4, 8)), mask)


def test_a_person_is_answered_for_the_trace_in_which_they_ask():
    layer, answers = BatchNormalization(), []

    @tf.function(jit_compile=True)
    def step(x):
        answers.append(layer.implementation_for(x).implementation)
        return x

    step(tf.ones((200, 1024)))
    assert answers == ["xla"]


def test_neither_eager_nor_graph_mode_is_xla():
    seen = [kernels.inside_xla()]
    tf.function(lambda: seen.append(kernels.inside_xla()))()
    assert seen == [False, False]


def test_xla_is_noticed_in_functions_branches_and_loops_within():
    seen = []

    def look(x):
        seen.append(kernels.inside_xla())
        return x

    @tf.function(jit_compile=True, autograph=False)
    def step(x):
        look(x)
        tf.function(look)(x)
        x = tf.cond(x > 0, lambda: look(x), lambda: x)
        return tf.while_loop(lambda y: y < 2, lambda y: look(y) + 1, [x])[0]

    step(tf.constant(1.0))
    assert len(seen) >= 4
    assert all(seen)


def test_xla_is_noticed_in_both_halves_of_a_custom_gradient():
    seen = []

    @ops.custom_gradient
    def double(x):
        seen.append(kernels.inside_xla())

        def gradient(*upstream):
            seen.append(kernels.inside_xla())
            return 2 * upstream[0]

        return 2 * x, gradient

    @tf.function(jit_compile=True, autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = double(x)
        return tape.gradient(y, x)

    assert float(step(tf.constant(1.0))) == 2
    assert seen == [True, True]


def test_a_function_beside_a_compiled_one_is_not_xla():
    seen = []

    @tf.function
    def outer(x):
        y = tf.function(lambda x: x + 1, jit_compile=True)(x)
        seen.append(kernels.inside_xla())
        return y

    outer(tf.constant(1.0))
    assert seen == [False]


def test_without_a_gpu_nothing_goes_to_one():
    if not tf.config.list_logical_devices("GPU"):
        assert not kernels.on_gpu()
