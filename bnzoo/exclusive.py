"""Which arguments of batch normalization exclude each other, for the layer and for configs."""

from typing import Any

EXCLUSIVE = (
    ("renorm", "unbiased_moving_variance", "renorm keeps a moving standard deviation instead"),
    ("virtual_batch_size", "synchronized", "one looks at less than the batch, the other at more"),
    ("virtual_batch_size", "renorm", "each ghost batch would need corrections of its own"),
    ("implementation", "synchronized", "the fused kernel does not let statistics be merged"),
    ("implementation", "virtual_batch_size", "the fused kernel takes one mean per channel"),
)


def check_combination(**given: Any) -> None:
    """Refuse arguments that mean two things at once; `EXCLUSIVE` says which and why.

    Args:
        **given: arguments by name; of `implementation`, only `"fused"` excludes anything.

    Raises:
        ValueError: names the first pair that cannot go together.
    """
    chosen = {name for name, value in given.items() if value}
    if given.get("implementation") != "fused":
        chosen.discard("implementation")
    for one, other, reason in EXCLUSIVE:
        if {one, other} <= chosen:
            raise ValueError(
                f"Received {one}={given[one]!r} with {other}={given[other]!r}, expected at most "
                f"one of {one} and {other}: {reason}. Leave one out."
            )
