"""What a run is. Nothing here imports TensorFlow or Keras."""

from bnzoo.config.data import Data
from bnzoo.config.loading import (
    check_configs,
    differences,
    dump_config,
    load_config,
    validate,
)
from bnzoo.config.models import Model
from bnzoo.config.overrides import apply_overrides
from bnzoo.config.schema import Config
from bnzoo.config.starters import starter_configs, starter_summary, starter_text
from bnzoo.config.train import Train

__all__ = [
    "Config",
    "Data",
    "Model",
    "Train",
    "apply_overrides",
    "check_configs",
    "differences",
    "dump_config",
    "load_config",
    "starter_configs",
    "starter_summary",
    "starter_text",
    "validate",
]
