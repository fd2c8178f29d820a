"""Configuration to fitted run."""

from bnzoo.training.fit import train

__all__ = ["train"]
