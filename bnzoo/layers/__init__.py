"""Keras layers; importing this module registers them, so that saved models load."""

from bnzoo.layers.batch_normalization import BatchNormalization

__all__ = ["BatchNormalization"]
