"""Which arguments of batch normalization exclude each other, for the layer and for configs."""

from collections.abc import Mapping
from typing import Any

EXCLUSIVE = (
    (
        "renorm",
        "unbiased_moving_variance",
        "batch renormalization derives the moving variance from its moving standard deviation",
    ),
    (
        "virtual_batch_size",
        "synchronized",
        "one takes statistics of less than the batch, the other of more",
    ),
    (
        "virtual_batch_size",
        "renorm",
        "each ghost batch would need corrections of its own",
    ),
    (
        "implementation",
        "synchronized",
        "the fused kernel does not let statistics be merged before it uses them",
    ),
    (
        "implementation",
        "virtual_batch_size",
        "the fused kernel takes one mean per channel",
    ),
)


def excluded(arguments: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the first pair of arguments that cannot go together, and why; None if all can.

    Args:
        arguments: by name; of `implementation`, only `"fused"` excludes anything.
    """
    chosen = {name for name, value in arguments.items() if value}
    if arguments.get("implementation") != "fused":
        chosen.discard("implementation")
    return next((pair for pair in EXCLUSIVE if {*pair[:2]} <= chosen), None)
