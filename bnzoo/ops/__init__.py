"""Batch-normalization maths: plain functions on the backend's tensors, nothing remembered.

batch_norm.py  the door: masks, ghost batches, inference, then one of the kernels
kernels.py     which kernel a call takes: the table, CPU or GPU
plain.py       the formula in plain operations, and its gradient; plain_jax.py: on JAX
fused.py       TensorFlow's fused kernel, its check, and its gradient
statistics.py  count, mean and variance of a batch
layouts.py     the layout of the sums
replicas.py    statistics over the replicas of `tf.distribute`
moving.py      moving statistics, batch renormalization
"""

from bnzoo.ops.batch_norm import batch_norm, infer, scale_and_shift
from bnzoo.ops.kernels import Choice, Settings, choose_kernel, describe, forget_functions
from bnzoo.ops.layouts import along_channels
from bnzoo.ops.moving import (
    cumulative_rate,
    has_statistics,
    moving_average,
    renorm_corrections,
    renorm_moving_variance,
    renorm_stddev,
)
from bnzoo.ops.statistics import merge_moments, moments, statistics_dtype, unbiased_variance

__all__ = [
    "Choice",
    "Settings",
    "along_channels",
    "batch_norm",
    "choose_kernel",
    "cumulative_rate",
    "describe",
    "forget_functions",
    "has_statistics",
    "infer",
    "merge_moments",
    "moments",
    "moving_average",
    "renorm_corrections",
    "renorm_moving_variance",
    "renorm_stddev",
    "scale_and_shift",
    "statistics_dtype",
    "unbiased_variance",
]
