"""Batch normalization for Keras, done properly.

What is named here is loaded when it is first used, so that `import bnzoo` and `bnzoo --help` are
quick and need no TensorFlow.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("bnzoo")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_HOMES = {
    "BadBatches": "bnzoo.training.bad_batches",
    "BatchNormalization": "bnzoo.layers",
    "InputError": "bnzoo.errors",
    "Recalibrate": "bnzoo.surgery",
    "compare": "bnzoo.in_python",
    "diagnose": "bnzoo.diagnosis",
    "export_saved_model": "bnzoo.serving",
    "fold_batch_norm": "bnzoo.surgery",
    "freeze_batch_norm": "bnzoo.surgery",
    "load_model": "bnzoo.saving",
    "recalibrate": "bnzoo.surgery",
    "replace_batch_norm": "bnzoo.surgery",
    "tune": "bnzoo.in_python",
    "unfreeze_batch_norm": "bnzoo.surgery",
}
_ROOMS = ("config", "data", "layers", "models", "ops", "serving", "studies", "surgery", "training")

__all__ = ["__version__", *_HOMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"bnzoo.{name}")
    raise AttributeError(f"module 'bnzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
