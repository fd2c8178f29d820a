"""Whose folder it is: a sweep is begun, continued or begun afresh, and never mixed with another."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from bnzoo import data, environment
from bnzoo.config import Config
from bnzoo.runs import SweepFolder
from bnzoo.runs.sweep_folder import Origin
from bnzoo.training.fit import describe_splits

FACTS_OF_DATA = ("name", "examples", "skipped", "fingerprint", "input_shape")


@contextmanager
def opened(config: Config, folder: SweepFolder, resume: bool, fresh: bool) -> Iterator[None]:
    """Hold the folder of a sweep for its length, after checking that it may be used.

    Args:
        config: of the sweep.
        folder: its folder.
        resume: continue what is there.
        fresh: remove what is there.

    Raises:
        InputError: the folder holds something else, or another process is at work in it.
    """
    now = functools.cache(lambda: origin(config))
    with folder.held():
        if resume:
            folder.check_resumed(config, now)
        elif fresh:
            folder.check_fresh(config)
        else:
            folder.check_new(config, now)
        found = now()  # refuses what cannot be loaded, before anything is removed
        if fresh:
            folder.clear()
        folder.claim(config, found)
        yield


def origin(config: Config) -> Origin:
    """Return what decides about the results besides the configuration: data and versions."""
    splits = data.load(**config.data.model_dump(), seed=config.seed)
    facts = describe_splits(splits)
    return {
        "data": {key: facts[key] for key in FACTS_OF_DATA},
        "versions": environment.versions("keras-tuner"),
    }
