"""Configuration to fitted run."""

from bnzoo.training.fit import train
from bnzoo.training.settings import start_afresh
from bnzoo.training.tensorboard import write_experiment

__all__ = ["start_afresh", "train", "write_experiment"]
