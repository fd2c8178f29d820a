"""Variants of a config against a baseline, seed by seed."""

from bnzoo.studies.study import compare

__all__ = ["compare"]
