"""The runs of a study: each is trained by the process that first gets hold of its folder.

They are known beforehand, so nobody has to give them out. A run whose process has died is held by
nobody and goes on, at its last complete epoch, with whoever looks next.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import keras

from bnzoo import data, own_code
from bnzoo.config import Config
from bnzoo.errors import InputError
from bnzoo.reporting import formatting
from bnzoo.runs import FolderHeld, PlannedRun, StudyFolder
from bnzoo.studies.watching import watch_of
from bnzoo.training import start_afresh, train
from bnzoo.training.fit import Watch, describe_splits

Announce = Callable[[str], None]
BeginRun = Callable[[int, int, str], None]
HELD_SECONDS = 0.5  # between looks at what other processes are at work on


def check_resumable(
    folder: StudyFolder,
    config: Config,
    runs: Sequence[PlannedRun],
    announce: Announce = lambda line: None,
) -> None:
    """Check the folder of a study that goes on, and those of its runs before any is touched.

    Args:
        folder: the study's.
        config: of the study.
        runs: of the study. Those that other processes are at work on are left to them.
        announce: called with lines that say what was mended.

    Raises:
        InputError: there is no such study, or one of its runs cannot be continued.
    """
    folder.resume(config)
    for run in runs:
        if run.folder.config_file.exists() and not run.folder.is_held():
            run.folder.resume(run.config, announce)
            if run.config.data.is_own:  # nothing else would notice where all runs have ended
                splits = data.load(**run.config.data.model_dump(), seed=run.seed)
                run.folder.check_data(describe_splits(splits))


def train_all(
    runs: Sequence[PlannedRun],
    callbacks: Sequence[keras.callbacks.Callback],
    announce: Announce,
    begin_run: BeginRun,
    before_run: Callable[[], None] = lambda: None,
    watch: Watch | None = None,
) -> None:
    """Train the next run that nobody holds, until all have ended, here or elsewhere.

    Args:
        runs: of the study.
        callbacks: more Keras callbacks for every run.
        announce: called with lines that say what is about to happen.
        begin_run: called before each run with its position, the number of runs and its label.
        before_run: called before that; may raise.
        watch: makes the callback that watches a run.

    Raises:
        InputError: a run's configuration does not work with its data.
    """
    described = set()
    code = {run.variant: own_code.digests(run.config.own_functions()) for run in runs}
    while pending := [
        place for place in enumerate(runs, start=1) if not place[1].folder.has_ended()
    ]:
        free = next((place for place in pending if not place[1].folder.is_held()), None)
        if free is None:
            time.sleep(HELD_SECONDS)
            continue
        before_run()
        position, run = free
        own_code.check_unchanged(code[run.variant], run.config.own_functions())
        begin_run(position, len(runs), formatting.run_name(run.variant, run.seed))
        start_afresh()
        # The runs of a variant differ by their seeds: one description is enough.
        say = announce if run.variant not in described else lambda line: None
        described.add(run.variant)
        with contextlib.suppress(FolderHeld):  # another process was quicker
            train(run.config, run.folder.path, None, callbacks, say, watch)
    start_afresh()


def join(
    config: Config,
    out: str | Path,
    wait: float,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    announce: Announce = lambda line: None,
    begin_run: BeginRun = lambda position, total, label: None,
) -> None:
    """Take part in the runs of a study that another process has opened, until all have ended.

    Args:
        config: the checked configuration, as the other process has it.
        out: the study's folder, which the processes share.
        wait: seconds to wait for the other process, at the beginning and before each run.
        callbacks: as of `compare`.
        announce: as of `compare`.
        begin_run: as of `compare`.

    Raises:
        InputError: nobody has opened the study, it is another, or one of its runs failed.
    """
    config, folder = config.study(), StudyFolder(out)
    _wait_until_open(folder, wait)
    runs = folder.planned(config)
    check_resumable(folder, config, runs)
    announce(f"Joined the study in {folder.path}.")
    wait_again = partial(_wait_until_open, folder, wait)
    train_all(runs, callbacks, announce, begin_run, wait_again, watch_of(config))


def _wait_until_open(folder: StudyFolder, wait: float) -> None:
    """Wait until a process is at work on a study; one that is completed is as good."""
    deadline = time.monotonic() + wait
    while not (
        folder.config_file.exists() and (folder.is_held() or folder.status() == "completed")
    ):
        if time.monotonic() > deadline:
            raise InputError(
                f"{folder.path}: expected a study that another process is at work on, and there "
                f"has been none for {wait:g} s. Start it with the same command without --join "
                "(with --resume if it has begun), or wait longer with --wait."
            )
        time.sleep(HELD_SECONDS)
