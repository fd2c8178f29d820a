"""Batch-normalization maths: plain functions on the backend's tensors, nothing remembered.

normalize.py   the entry point: masks, ghost batches, then one of the kernels; inference
kernels.py     which kernel a call takes: the table, CPU or GPU
plain.py       the formula in plain operations and its gradient: implementation "reference",
               and "xla" when XLA compiles it; plain_jax.py: both on JAX
fused.py       TensorFlow's fused kernel, its check, and its gradient: "fused"
statistics.py  count, mean and variance of a batch, with a mask or without
layouts.py     the layout of the sums
replicas.py    statistics over the replicas of `tf.distribute`
moving.py      how moving statistics move, and batch renormalization: the formulas; the
               variables are assigned in bnzoo/layers/batch_normalization.py
"""

from bnzoo.ops import moving
from bnzoo.ops.kernels import Choice, Settings, choose_kernel, describe, forget_functions
from bnzoo.ops.layouts import along_channels
from bnzoo.ops.normalize import batch_norm, infer, scale_and_shift
from bnzoo.ops.statistics import merge_moments, moments, statistics_dtype, unbiased_variance

__all__ = [
    "Choice",
    "Settings",
    "along_channels",
    "batch_norm",
    "choose_kernel",
    "describe",
    "forget_functions",
    "infer",
    "merge_moments",
    "moments",
    "moving",
    "scale_and_shift",
    "statistics_dtype",
    "unbiased_variance",
]
