"""What a call knows of its trace; `inside_xla` reads what TensorFlow does not publish."""

import tensorflow as tf
from keras import ops

from bnzoo.ops.tracing import inside_xla, on_gpu


def test_neither_eager_nor_graph_mode_is_xla():
    seen = [inside_xla()]
    tf.function(lambda: seen.append(inside_xla()))()
    assert seen == [False, False]


def test_xla_is_noticed_in_functions_branches_and_loops_within():
    seen = []

    def look(x):
        seen.append(inside_xla())
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
        seen.append(inside_xla())

        def gradient(*upstream):
            seen.append(inside_xla())
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
        seen.append(inside_xla())
        return y

    outer(tf.constant(1.0))
    assert seen == [False]


def test_without_a_gpu_nothing_goes_to_one():
    if not tf.config.list_logical_devices("GPU"):
        assert not on_gpu()
