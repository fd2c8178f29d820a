"""What is known of the machine and of the trace in which a call stands."""

import keras


def inside_xla() -> bool:
    """Tell whether XLA compiles what is being traced: True on JAX, whose trainers always do."""
    if keras.backend.backend() == "jax":
        return True
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        # Not public; tests/test_ops_tracing.py fails should it change.
        context = graph._get_control_flow_context()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False


def on_gpu() -> bool:
    """Tell whether new operations go to a GPU: one is visible, and no CPU scope is open."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "gpu"
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        return False
    return "CPU" not in tf.zeros([]).device.upper()
