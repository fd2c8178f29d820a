"""What a run is. Nothing here imports TensorFlow or Keras."""

from bnzoo.config.data import Data
from bnzoo.config.loading import (
    claims_folder,
    differences,
    dump_config,
    flat,
    load_config,
    load_resolved,
    starter_configs,
    starter_summary,
    starter_text,
    validate,
)
from bnzoo.config.reading import apply_overrides, as_yaml
from bnzoo.config.schema import BASELINE, Config
from bnzoo.config.space import Dimension, combinations, expected_trials, space_of
from bnzoo.config.train import Train
from bnzoo.config.variants import trial_config, value_texts, values_name, variant_configs

__all__ = [
    "BASELINE",
    "Config",
    "Data",
    "Dimension",
    "Train",
    "apply_overrides",
    "as_yaml",
    "claims_folder",
    "combinations",
    "differences",
    "dump_config",
    "expected_trials",
    "flat",
    "load_config",
    "load_resolved",
    "space_of",
    "starter_configs",
    "starter_summary",
    "starter_text",
    "trial_config",
    "validate",
    "value_texts",
    "values_name",
    "variant_configs",
]
