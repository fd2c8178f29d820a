"""The models: uncompiled `keras.Model`s that return logits."""

from bnzoo.models.build import build, build_model, list_models
from bnzoo.models.resnet import ZeroPaddedShortcut
from bnzoo.models.sequences import MaskedAveragePooling, PadSteps, ValidSteps

__all__ = [
    "MaskedAveragePooling",
    "PadSteps",
    "ValidSteps",
    "ZeroPaddedShortcut",
    "build",
    "build_model",
    "list_models",
]
