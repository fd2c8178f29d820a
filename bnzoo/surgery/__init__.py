"""From one Keras model to another: batch normalization replaced, frozen, folded, taken out."""

from bnzoo.surgery.fold import fold_batch_norm, has_batch_norm
from bnzoo.surgery.freeze import freeze_batch_norm, unfreeze_batch_norm
from bnzoo.surgery.replace import replace_batch_norm

__all__ = [
    "fold_batch_norm",
    "freeze_batch_norm",
    "has_batch_norm",
    "replace_batch_norm",
    "unfreeze_batch_norm",
]
