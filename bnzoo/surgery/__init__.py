"""What is done to the batch normalization of a Keras model, once there is one."""

from bnzoo.surgery.fold import fold_batch_norm, fold_report, has_batch_norm
from bnzoo.surgery.freeze import freeze_batch_norm, unfreeze_batch_norm
from bnzoo.surgery.recalibrate import Recalibrate, recalibrate
from bnzoo.surgery.replace import replace_batch_norm

__all__ = [
    "Recalibrate",
    "fold_batch_norm",
    "fold_report",
    "freeze_batch_norm",
    "has_batch_norm",
    "recalibrate",
    "replace_batch_norm",
    "unfreeze_batch_norm",
]
