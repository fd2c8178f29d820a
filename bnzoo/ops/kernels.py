"""Which kernel a training batch takes: one table, read from the top.

The measurements say how many times as fast as `keras.layers.BatchNormalization`, forward and
backward in float32 on 2 cores of AMD EPYC; `scripts/bench_batch_norm.py` repeats them.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import keras

from bnzoo.versions import private

# From how many elements on the fused kernel wins: at 66,000 it takes 0.38 ms against 0.19 ms of
# plain operations, at 129,000 0.44 against 0.56. Each call of oneDNN costs about 0.1 ms by itself.
FUSED_FROM = 100_000
# Casting float16 for it pays later.
FUSED_FLOAT16_FROM = 260_000
# In inference it is one pass where plain operations are three: 2.5x to 3x from here on.
FUSED_INFERENCE_FROM = 65_536
# What an unknown size is taken for: in `fit` the batch is not known when the step is traced.
UNKNOWN_SIZE = 32

NO_CONTEXT = "Batch normalization takes plain operations: XLA may be compiling it."


class Settings(NamedTuple):
    """What a layer wants of every call.

    Attributes:
        axis: the channel axis, in [-ndim, ndim).
        epsilon: added to the variance, at least 0 (default: Keras').
        dtype: dtype of the outputs.
        implementation: `"auto"`, `"reference"`, `"fused"` or `"xla"`.
        synchronized: take the statistics over all replicas of a `tf.distribute` strategy.
        virtual_batch_size: examples of a ghost batch, or None.
        unbiased: divide the returned variance by n - 1 (and by n where n is 1).
    """

    axis: int = -1
    epsilon: float = 1e-3
    dtype: str = "float32"
    implementation: str = "auto"
    synchronized: bool = False
    virtual_batch_size: int | None = None
    unbiased: bool = False


class Call(NamedTuple):
    """What is known of one call when it is traced.

    Attributes:
        backend: `"tensorflow"`, `"jax"` or another of Keras'.
        xla: XLA compiles this trace.
        gpu: new operations go to a GPU.
        shape: of the inputs, None where unknown.
        axis: the channel axis, in [0, ndim).
        dtype: of the inputs.
        masked: the call has a mask.
        synchronized: statistics are taken over replicas.
        ghosts: statistics are taken over parts of the batch.
    """

    backend: str
    xla: bool
    gpu: bool
    shape: tuple
    axis: int
    dtype: str
    masked: bool = False
    synchronized: bool = False
    ghosts: bool = False

    @property
    def channels(self) -> int:
        """Size of the channel axis."""
        return self.shape[self.axis]

    @property
    def channels_last(self) -> bool:
        """Whether the channel axis is the last one."""
        return self.axis == len(self.shape) - 1

    @property
    def elements(self) -> int:
        """Elements of the batch, at a guess where a size is unknown."""
        return math.prod(UNKNOWN_SIZE if size is None else size for size in self.shape)


class Choice(NamedTuple):
    """An implementation and the reason for it.

    Attributes:
        implementation: `"reference"`, `"fused"` or `"xla"`.
        reason: one line, with the measurement behind it.
    """

    implementation: str
    reason: str


def describe(inputs, masked: bool, settings: Settings, ghosts: bool = False) -> Call:
    """Say what is known of a call.

    Args:
        inputs: tensor, or anything with a shape and a dtype; None where a size is unknown.
        masked: the call has a mask.
        settings: what the layer wants.
        ghosts: whether the first axis counts ghost batches already; the settings may ask for
            ghost batches that are made later.

    Returns:
        A `Call`, for the trace and the device scope in which this is called.

    Example:
        >>> call = describe(keras.Input((32, 32, 3)), False, Settings())
        >>> call.channels_last, call.elements
        (True, 98304)
    """
    return Call(
        backend=keras.backend.backend(),
        xla=inside_xla(),
        gpu=on_gpu(),
        shape=tuple(inputs.shape),
        axis=settings.axis % len(inputs.shape),
        dtype=keras.backend.standardize_dtype(inputs.dtype),
        masked=masked,
        synchronized=settings.synchronized,
        ghosts=ghosts or settings.virtual_batch_size is not None,
    )


def _too_small(call):
    return call.elements < (FUSED_FLOAT16_FROM if call.dtype == "float16" else FUSED_FROM)


# (implementation, when, why); the first line that fits is taken.
RULES = (
    ("xla", lambda call: call.backend == "jax", "JAX compiles every step: 1.0x to 1.3x"),
    (
        "reference",
        lambda call: call.backend != "tensorflow",
        "plain operations, and the backend's own gradient: not measured",
    ),
    (
        "xla",
        lambda call: call.xla,
        "XLA compiles this call: 0.8x (256x1024) to 1.6x; its fused kernel loses the variance",
    ),
    (
        "reference",
        lambda call: call.synchronized,
        "replicas exchange statistics between operations, which one computation cannot",
    ),
    (
        "reference",
        lambda call: call.gpu and (call.dtype == "float64" or None in call.shape[1:]),
        "on a GPU, XLA would compile anew for every length, and gains nothing in float64",
    ),
    (
        "xla",
        lambda call: call.gpu,
        "operations go to a GPU: one read for the statistics, one for the output; not measured",
    ),
    (
        "reference",
        lambda call: call.masked or call.ghosts,
        "masks and ghost batches need sums that the fused kernel does not give",
    ),
    ("reference", lambda call: call.dtype == "float64", "the fused kernel has no float64"),
    (
        "reference",
        lambda call: not 2 <= len(call.shape) <= 5,
        "the fused kernel takes 2 to 5 dimensions",
    ),
    (
        "reference",
        lambda call: not call.channels_last,
        "channels are not last: 1.8x to 4.4x, Keras 2's kernels 1.3x to 3.0x",
    ),
    (
        "reference",
        lambda call: call.channels % 4 != 0,
        "channels are not divisible by 4: 1.0x to 2.3x, the fused kernel 0.5x",
    ),
    (
        "reference",
        _too_small,
        "fewer than 100,000 elements (float16: 260,000; unknown sizes count as 32): 0.9x to 1.2x, "
        "the fused kernel 0.3x",
    ),
    (
        "fused",
        lambda call: True,
        "channels last, divisible by 4, large: 1.4x to 4.2x, in bfloat16 5.6x",
    ),
)


def choose_kernel(call: Call, implementation: str = "auto") -> Choice:
    """Choose the implementation for a call.

    Args:
        call: what is known of it.
        implementation: what the layer wants: `"auto"`, or the one to take.

    Returns:
        The first of `RULES` that fits, or what is wanted.

    Raises:
        ValueError: the fused kernel is wanted and cannot take the call.

    Example:
        >>> call = Call("tensorflow", False, False, (None, 32, 32, 64), 3, "float32")
        >>> choose_kernel(call).implementation
        'fused'
    """
    if implementation == "xla" and call.synchronized and not call.xla:
        implementation = "auto"
    if implementation == "auto":
        return next(Choice(name, why) for name, fits, why in RULES if fits(call))
    # No `:=` in what a user's tf.function calls: AutoGraph warns that it cannot convert it.
    obstacle = _why_not_fused(call) if implementation == "fused" else None
    if obstacle:
        raise ValueError(
            f"Received implementation='fused' for inputs of shape {call.shape} and dtype "
            f"{call.dtype}, which the fused kernel cannot take: {obstacle}. "
            "Use implementation='auto', or 'reference' or 'xla'."
        )
    return Choice(implementation, "the layer's `implementation` argument")


def _why_not_fused(call):
    """Say why the fused kernel cannot take a call at all, or None if it can."""
    if call.backend != "tensorflow":
        return f"it is TensorFlow's, and the backend is {call.backend}"
    if call.xla:
        return "XLA compiles this call, and XLA's version of it loses the variance"
    if call.gpu:
        return "a GPU's version of it has no check of its results"
    if call.masked:
        return "it knows no mask"
    if call.ghosts or call.synchronized:
        return "it takes one mean per channel, of one replica"
    if call.dtype == "float64":
        return "it has no float64"
    if not 2 <= len(call.shape) <= 5:
        return f"it takes 2 to 5 dimensions, and this input has {len(call.shape)}"
    return None


def infers_fused(call: Call, implementation: str = "auto") -> bool:
    """Tell whether the fused kernel normalizes by moving statistics: where it is faster.

    XLA makes one pass of plain operations too, and GPUs have their own kernels.
    """
    # Inference has neither ghosts nor replicas; oneDNN has no kernel for float16.
    call = call._replace(ghosts=False, synchronized=False)
    return (
        implementation in ("auto", "fused")
        and _why_not_fused(call) is None
        and call.dtype != "float16"
        and call.channels_last
        and call.channels % 4 == 0
        and call.elements >= FUSED_INFERENCE_FROM
    )


def inside_xla() -> bool:
    """Tell whether XLA compiles what is being traced in TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        find = private(graph, "_get_control_flow_context", NO_CONTEXT)
        if find is None:
            return True
        context = find()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False


def on_gpu() -> bool:
    """Tell whether new operations go to a GPU; in TensorFlow a device scope may say otherwise."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "gpu"
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        return False
    return "CPU" not in tf.zeros([]).device.upper()


def as_function(run, shape, jit_compile=None, inline=True):
    """Make a TensorFlow function: for XLA, or because forward mode needs one inside a graph.

    Args:
        run: what to call.
        shape: of the inputs. A function for each: TensorFlow would widen the shapes of one.
        jit_compile: have XLA compile it.
        inline: take its operations into the graph that calls it.

    Returns:
        The same function for the same arguments, of the 512 last used. In eager calls `run` itself,
        unless XLA compiles it: every new shape would be a trace of its own.
    """
    import tensorflow as tf

    if tf.executing_eagerly() and not jit_compile:
        return run
    return _function(run, shape, jit_compile, inline)


@lru_cache(maxsize=512)
def _function(run, shape, jit_compile, inline):
    import tensorflow as tf

    attributes = None if inline else {"_noinline": True}
    return tf.function(
        run, jit_compile=jit_compile, autograph=False, experimental_attributes=attributes
    )


def forget_functions():
    """Forget every such function: what was traced for one training run has no use afterwards."""
    _function.cache_clear()
