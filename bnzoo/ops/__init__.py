"""Batch-normalization maths: plain functions on the backend's tensors, nothing remembered."""

from bnzoo.ops.dispatch import normalize_batch
from bnzoo.ops.gradient import batch_norm
from bnzoo.ops.moments import moments
from bnzoo.ops.moving_average import moving_average, unbiased_variance
from bnzoo.ops.normalize import normalize, scale_and_shift
from bnzoo.ops.renorm import renorm_corrections, renorm_moving_variance
from bnzoo.ops.shapes import statistics_dtype
from bnzoo.ops.synchronize import merge_moments

__all__ = [
    "batch_norm",
    "merge_moments",
    "moments",
    "moving_average",
    "normalize",
    "normalize_batch",
    "renorm_corrections",
    "renorm_moving_variance",
    "scale_and_shift",
    "statistics_dtype",
    "unbiased_variance",
]
