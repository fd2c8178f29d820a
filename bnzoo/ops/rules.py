"""Which way a training batch goes: one table, read from the top, and the layouts behind it.

The measurements are ratios to `keras.layers.BatchNormalization`, forward and backward in float32 on
2 cores of AMD EPYC; `scripts/bench_batch_norm.py` repeats them.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from bnzoo.ops import views

# From how many elements on the fused kernels win: at 66,000 they take 0.38 ms against 0.19 ms of
# plain operations, at 129,000 0.44 against 0.56. oneDNN's cost about 0.1 ms each whatever the size.
FUSED_FROM = 100_000
# Casting float16 for them pays later.
FUSED_FLOAT16_FROM = 260_000
# With an unknown batch, elements of one example: below the first, no batch under 196 reaches
# FUSED_FROM; from the second on every batch from 25 on does; between, the size decides when the
# step runs.
NEVER_FUSED_BELOW = 512
FUSED_ABOVE = 4096
# So many samples per channel may be added up one after the other without a shift.
FEW_SAMPLES = 4096


@dataclass(frozen=True)
class Call:
    """What is known of a call when it is traced.

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
    def per_example(self) -> int | None:
        """Elements of one example; None where unknown."""
        return None if None in self.shape[1:] else math.prod(self.shape[1:])

    @property
    def elements(self) -> int | None:
        """Elements of the batch; None where unknown."""
        return None if None in self.shape else math.prod(self.shape)


class Choice(NamedTuple):
    """An implementation and the reason for it.

    Attributes:
        implementation: `"reference"`, `"fused"` or `"xla"`.
        reason: one line, with the measurement behind it.
        by_size: with an unknown batch: fused from `FUSED_FROM` elements on, else reference.
    """

    implementation: str
    reason: str
    by_size: bool = False


def fused_from(call: Call) -> int:
    """Return the number of elements from which on the fused kernel wins."""
    return FUSED_FLOAT16_FROM if call.dtype == "float16" else FUSED_FROM


def _too_small(call) -> bool:
    if call.elements is not None:
        return call.elements < fused_from(call)
    return call.per_example is not None and call.per_example < NEVER_FUSED_BELOW


def _size_decides(call) -> bool:
    if call.elements is not None:
        return False
    return call.per_example is None or call.per_example < FUSED_ABOVE


# (implementation, when, why); the first line that fits is taken.
RULES = (
    (
        "xla",
        lambda call: call.backend == "jax",
        "JAX compiles every step: 1.0x to 1.3x",
    ),
    (
        "reference",
        lambda call: call.backend != "tensorflow",
        "plain operations work on every backend: not measured",
    ),
    (
        "xla",
        lambda call: call.xla,
        "XLA compiles this call: 0.8x (256x1024) to 1.6x; its fused kernel loses the variance",
    ),
    (
        "xla",
        lambda call: call.gpu and call.dtype != "float64",
        "a GPU is visible: one read for the statistics, one for the output; not measured yet",
    ),
    (
        "reference",
        lambda call: call.masked or call.synchronized or call.ghosts,
        "masks, replicas and ghost batches need sums that the fused kernel does not give",
    ),
    (
        "reference",
        lambda call: call.dtype == "float64",
        "the fused kernel has no float64",
    ),
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
        "fewer than 100,000 elements (float16: 260,000): 0.9x to 1.2x, the fused kernel 0.3x",
    ),
    (
        "fused",
        lambda call: True,
        "channels last, divisible by 4, large: 1.4x to 4.2x, in bfloat16 5.6x",
    ),
)


def choose(call: Call) -> Choice:
    """Choose the implementation for a call.

    Args:
        call: what is known of it.

    Returns:
        The first of `RULES` that fits.

    Example:
        >>> call = Call("tensorflow", False, False, (None, 32, 32, 64), 3, "float32")
        >>> choose(call).implementation
        'fused'
    """
    implementation, _, reason = next(rule for rule in RULES if rule[1](call))
    return Choice(implementation, reason, implementation == "fused" and _size_decides(call))


def why_not_fused(call: Call) -> str | None:
    """Say why the fused kernel cannot take a call at all, or None if it can."""
    if call.backend != "tensorflow":
        return f"it is TensorFlow's, and the backend is {call.backend}"
    if call.xla:
        return "XLA compiles this call, and XLA's version of it loses the variance"
    if call.masked:
        return "it knows no mask"
    if call.dtype == "float64":
        return "it has no float64"
    if not 2 <= len(call.shape) <= 5:
        return f"it takes 2 to 5 dimensions, and this input has {len(call.shape)}"
    return None


def infer_fused(call: Call) -> bool:
    """Tell whether the fused kernel is the faster way to normalise by moving statistics.

    It is one pass where plain operations are three: 2.5x to 3x from 65,000 elements on, and 0.5x
    on small inputs. Compiled by XLA, or on a GPU, plain operations are one pass as well.
    """
    least = 1024 if len(call.shape) > 2 else 8192
    large = (call.elements or 0) >= 65_536 if call.elements else (call.per_example or 0) >= least
    return (
        call.backend == "tensorflow"
        and not (call.xla or call.gpu)
        and call.dtype in ("float32", "bfloat16")
        and 2 <= len(call.shape) <= 5
        and call.channels_last
        and call.channels % 4 == 0
        and large
    )


def plain_view(call: Call):
    """Choose the layout, and what to sum around, for plain operations that are run one by one."""
    few = call.elements is not None and call.elements <= FEW_SAMPLES * call.channels
    return _plain_layout(call), "mean" if few else "sample"


def _plain_layout(call):
    if call.ghosts or call.backend != "tensorflow":
        return _whole(call)
    if not call.channels_last:
        return _planes(call)
    if call.elements is None:
        large = call.per_example is None or call.per_example >= 4 * NEVER_FUSED_BELOW
        # 131,072 squares, added one after the other, are off by 3e-5 unless columns fill registers.
        odd = call.channels % 8 != 0 and len(call.shape) > 2
        large = large or odd or 1 < call.channels < 8
    else:
        large = call.elements >= FUSED_FROM
    return views.Rows(call.channels, fold(call) if large else 1, by_matmul=large)


def xla_view(call: Call):
    """Choose the layout, and what to sum around, for a computation that XLA compiles."""
    if call.ghosts:
        return _whole(call), "sample"
    if not call.channels_last:
        return _planes(call), "sample"
    if len(call.shape) == 2:
        return views.Stacks(call.channels, 0), "sample"
    positions = call.shape[1:-1]
    positions = None if None in positions else math.prod(positions)
    cpu = "batch_first" if call.backend == "jax" else "matmul"
    return views.Stacks(call.channels, positions, "at_once" if call.gpu else cpu), "sample"


def _whole(call):
    return views.Whole(len(call.shape), call.axis, call.channels, call.ghosts)


def _planes(call):
    after = call.shape[call.axis + 1 :]
    return views.Planes(call.axis, call.channels, None if None in after else math.prod(after))


def fold(call: Call) -> int:
    """Find how many samples to put into one row: a power of two, up to 512 numbers."""
    if not call.channels_last:
        return 1
    known = call.shape[1:-1] if call.shape[0] is None else call.shape[:-1]
    if call.masked or None in known:
        return 1
    samples, together = math.prod(known), 1
    while samples and samples % (2 * together) == 0 and 2 * together * call.channels <= 512:
        together *= 2
    return together
