"""Configuration to fitted run."""

from bnzoo.training.fit import train
from bnzoo.training.settings import start_afresh

__all__ = ["start_afresh", "train"]
