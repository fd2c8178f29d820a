"""Batch-normalization maths: plain functions on the backend's tensors, nothing remembered."""

from bnzoo.ops.dispatch import (
    Settings,
    batch_norm,
    choose_implementation,
    normalize_batch,
    normalize_by_moving,
)
from bnzoo.ops.moments import moments
from bnzoo.ops.moving_average import cumulative_share, move, moving_average, unbiased_variance
from bnzoo.ops.normalize import normalize, scale_and_shift
from bnzoo.ops.renorm import renorm_corrections, renorm_moving_variance
from bnzoo.ops.shapes import statistics_dtype
from bnzoo.ops.synchronize import merge_moments

__all__ = [
    "Settings",
    "batch_norm",
    "choose_implementation",
    "cumulative_share",
    "merge_moments",
    "moments",
    "move",
    "moving_average",
    "normalize",
    "normalize_batch",
    "normalize_by_moving",
    "renorm_corrections",
    "renorm_moving_variance",
    "scale_and_shift",
    "statistics_dtype",
    "unbiased_variance",
]
