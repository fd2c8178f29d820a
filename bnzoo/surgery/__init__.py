"""From one Keras model to another: what only training needs is taken out."""

from bnzoo.surgery.fold import fold_batch_norm, has_batch_norm

__all__ = ["fold_batch_norm", "has_batch_norm"]
