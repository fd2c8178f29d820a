"""Keras layers; importing this module registers them, so that saved models load."""

from bnzoo.layers.batch_normalization import BatchNormalization
from bnzoo.layers.multiply_add import MultiplyAdd

__all__ = ["BatchNormalization", "MultiplyAdd"]
