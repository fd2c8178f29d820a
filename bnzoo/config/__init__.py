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
from bnzoo.config.space import Dimension, combinations, space_of, trial_config, values_name
from bnzoo.config.space_size import expected_trials
from bnzoo.config.starters import starter_configs, starter_summary, starter_text
from bnzoo.config.train import Train
from bnzoo.config.tune import Tune
from bnzoo.config.variants import variant_configs

__all__ = [
    "BASELINE",
    "Compare",
    "Config",
    "Data",
    "Dimension",
    "Model",
    "Train",
    "Tune",
    "apply_overrides",
    "check_configs",
    "combinations",
    "differences",
    "dump_config",
    "expected_trials",
    "load_config",
    "load_resolved",
    "space_of",
    "starter_configs",
    "starter_summary",
    "starter_text",
    "trial_config",
    "validate",
    "values_name",
    "variant_configs",
]
