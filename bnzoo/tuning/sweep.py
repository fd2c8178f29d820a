"""A sweep: trials until the search has ended, then the numbers and the report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from bnzoo.config import Config
from bnzoo.runs import SweepFolder
from bnzoo.tuning.crew import CONNECTED, LISTENING
from bnzoo.tuning.executor import Executor
from bnzoo.tuning.opening import opened, origin
from bnzoo.tuning.oracles import saved_oracle
from bnzoo.tuning.results import write_results
from bnzoo.tuning.roles import Role
from bnzoo.tuning.search import connect, search, serve
from bnzoo.tuning.trial import Trial


def _say_nothing(line: str) -> None:
    pass


def tune(
    config: Config,
    out: str | Path,
    resume: bool = False,
    fresh: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    announce: Callable[[str], None] = _say_nothing,
    begin_run: Callable[[Trial, int], None] = lambda trial, seed: None,
    end_trial: Callable[[Trial, float], None] = lambda trial, score: None,
    name: str | None = None,
    command: str = "",
    chief: Role | None = None,
    look: Callable[[], None] = lambda: None,
    write_results: Callable[..., dict[str, Any]] = write_results,
) -> dict[str, Any]:
    """Search the space of a config, and return the summary of the sweep.

    The trials are run in this process or, where it is a chief, by the workers that ask it for them.

    Keras' global state is cleared before each run: models made earlier in this process should be
    saved first.

    Args:
        config: the checked configuration, with a `tune` section.
        out: the sweep's folder; made if missing.
        resume: keep the runs in `out` that have ended, and continue the search.
        fresh: remove the sweep in `out` first.
        callbacks: more Keras callbacks for every run, such as a progress display.
        announce: called with lines that say what is about to happen.
        begin_run: called before each run with the trial and the seed.
        end_trial: called after each trial with its score.
        name: what the sweep is called; by default as its folder.
        command: the command that runs it again, for the report.
        chief: the role of this process, where others run the trials.
        look: called a few times a second by a chief.
        write_results: writes down what was found, from the folder (`bnzoo.tuning.results`).

    Returns:
        The content of `summary.json`.

    Raises:
        InputError: there is nothing to search, the folder holds something else, or data and model
            do not fit together.
        KeyboardInterrupt: again, after an interrupted sweep has been recorded.
    """
    config, folder = config.sweep(), SweepFolder(out)
    executor = Executor(config, folder, callbacks, announce, begin_run)
    with opened(config, folder, resume, fresh):
        oracle = saved_oracle(config, folder, executor.has_ended)

        def record(status: str) -> dict[str, Any]:
            return write_results(folder, config, status, name or folder.path.name, command)

        try:
            if chief:
                announce(f"{LISTENING} {chief.address}. Waiting for workers.")
                serve(oracle, chief, look)
            else:
                search(oracle, config, executor, end_trial)
        except BaseException:  # whatever stops a sweep, what it has found so far is kept
            record("interrupted")
            raise
        return record("completed")


def work(
    config: Config,
    out: str | Path,
    role: Role,
    wait: float,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    announce: Callable[[str], None] = _say_nothing,
    begin_run: Callable[[Trial, int], None] = lambda trial, seed: None,
    end_trial: Callable[[Trial, float], None] = lambda trial, score: None,
) -> None:
    """Run the trials that a chief gives out, until there are no more.

    Args:
        config: the checked configuration, as the chief has it.
        out: the sweep's folder, which chief and workers share.
        role: the worker's.
        wait: seconds that it waits for the chief, at the beginning and whenever it asks.
        callbacks: more Keras callbacks for every run, such as a progress display.
        announce: called with lines that say what is about to happen.
        begin_run: called before each run with the trial and the seed.
        end_trial: called after each trial with its score.

    Raises:
        InputError: there is no chief, or it is at work on something else.
    """
    config, folder = config.sweep(), SweepFolder(out)
    executor = Executor(config, folder, callbacks, announce, begin_run)
    oracle = connect(role, wait)  # which has opened the folder
    folder.check_shared(config, lambda: origin(config))
    announce(f"{CONNECTED} at {role.address}.")
    search(oracle, config, executor, end_trial, role.name)
