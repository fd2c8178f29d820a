"""What a run is. Nothing here imports TensorFlow or Keras."""

from bnzoo.config.compare import BASELINE, Compare
from bnzoo.config.data import Data
from bnzoo.config.loading import (
    check_configs,
    differences,
    dump_config,
    load_config,
    load_resolved,
    validate,
)
from bnzoo.config.models import Model
from bnzoo.config.overrides import apply_overrides
from bnzoo.config.schema import Config
from bnzoo.config.starters import starter_configs, starter_summary, starter_text
from bnzoo.config.train import Train
from bnzoo.config.variants import variant_configs

__all__ = [
    "BASELINE",
    "Compare",
    "Config",
    "Data",
    "Model",
    "Train",
    "apply_overrides",
    "check_configs",
    "differences",
    "dump_config",
    "load_config",
    "load_resolved",
    "starter_configs",
    "starter_summary",
    "starter_text",
    "validate",
    "variant_configs",
]
