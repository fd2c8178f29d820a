"""A sweep: trials until the search has ended, then the numbers and the report."""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from bnzoo import data, environment, own_code
from bnzoo.config import Config, trial_config
from bnzoo.runs import SweepFolder
from bnzoo.runs.sweep_folder import Origin
from bnzoo.training import start_afresh, train, write_experiment
from bnzoo.training.fit import describe_splits
from bnzoo.tuning.oracles import saved_oracle
from bnzoo.tuning.results import write_results
from bnzoo.tuning.search import connected, search, serve
from bnzoo.tuning.trials import Trial, run_score, trial_score
from bnzoo.tuning.workers import CONNECTED, Role, SweepWorkers

DATA_KEYS = ("name", "examples", "skipped", "fingerprint", "input_shape", "preprocessing")
HELD_SECONDS = 0.5  # between looks at a run that another process is at work on


def _ignore(*arguments: Any) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What is told how far the trials of this process are.

    Attributes:
        callbacks: more Keras callbacks for every run, such as a progress display.
        log: called with lines that say what is about to happen.
        begin_run: called before each run with the trial and the seed.
        end_trial: called after each trial with its score.
    """

    callbacks: Sequence[keras.callbacks.Callback] = ()
    log: Callable[[str], None] = _ignore
    begin_run: Callable[[Trial, int], None] = _ignore
    end_trial: Callable[[Trial, float], None] = _ignore


def tune(
    config: Config,
    out: str | Path,
    resume: bool = False,
    fresh: bool = False,
    hooks: Hooks = Hooks(),
    name: str | None = None,
    command: str = "",
    report: bool = True,
    chief: Role | None = None,
    workers: SweepWorkers | None = None,
    poll: Callable[[], None] = _ignore,
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
        hooks: told how far the trials are.
        name: what the sweep is called; by default as its folder.
        command: the command that runs it again, for the report.
        report: whether to write the report, too.
        chief: the role of this process, where workers that others started run the trials.
        workers: started by this process; they are ended before the results are written.
        poll: called a few times a second by a chief.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError: there is nothing to search, the folder holds something else, or data and model
            do not fit together.
        WorkerError: the work of a worker failed.
        KeyboardInterrupt: again, after an interrupted sweep has been recorded.
    """
    config, folder = config.sweep(), SweepFolder(out)
    runner, name = TrialRunner(config, folder, hooks), name or folder.path.name
    with opened(config, folder, resume, fresh):
        oracle = saved_oracle(config, folder, runner.has_ended)
        try:
            if workers:
                with workers:
                    serve(oracle, workers.chief, lambda: (workers.poll(), poll()))
            elif chief:
                hooks.log(f"Listening at {chief.address}. Waiting for workers.")
                serve(oracle, chief, poll)
            else:
                search(oracle, config, runner, hooks.end_trial)
        except BaseException:  # whatever stops a sweep, what it has found so far is kept
            write_results(folder, config, "interrupted", name, command, report)
            raise
        return write_results(folder, config, "completed", name, command, report)


def work(config: Config, out: str | Path, role: Role, wait: float, hooks: Hooks = Hooks()) -> None:
    """Run the trials that a chief gives out, until there are no more.

    Args:
        config: the checked configuration, as the chief has it.
        out: the sweep's folder, which chief and workers share.
        role: the worker's.
        wait: seconds that it waits for the chief, at the beginning and whenever it asks.
        hooks: told how far the trials are.

    Raises:
        InputError: there is no chief, or it is at work on something else.
    """
    config, folder = config.sweep(), SweepFolder(out)
    with connected(role, wait) as oracle:  # the chief has opened the folder
        folder.check_shared(config, origin_of(config))
        hooks.log(f"{CONNECTED} at {role.address}.")
        runner = TrialRunner(config, folder, hooks)
        search(oracle, config, runner, hooks.end_trial, role.name)


@contextlib.contextmanager
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
    with folder.held():
        origin = origin_of(config)  # refuses what cannot be loaded, before anything is removed
        folder.check(config, origin, resume, fresh)
        if fresh:
            folder.clear()
        folder.claim(config, origin)
        write_experiment(config, folder.tensorboard, [*config.tune.space, "seed"])
        yield


def origin_of(config: Config) -> Origin:
    """Return what decides about the results besides the configuration: data and versions."""
    splits = data.load(**config.data.model_dump(), seed=config.seed)
    found = describe_splits(splits)
    return {
        "code": own_code.digests(config.own_functions()),
        "data": {key: found[key] for key in DATA_KEYS},
        "versions": environment.versions("keras-tuner"),
    }


class TrialRunner:
    """Runs trials as ordinary runs, one per seed; runs that have ended are not run again.

    Args:
        config: the sweep's.
        folder: the sweep's.
        hooks: told how far the trials are.
    """

    def __init__(self, config: Config, folder: SweepFolder, hooks: Hooks = Hooks()):
        self._config, self._folder, self._hooks, self._log = config, folder, hooks, hooks.log
        self.seeds = config.tune.seeds_from(config.seed)
        self._code = own_code.digests(config.own_functions())

    def __call__(self, trial: Trial) -> float:
        """Run a trial and return its score.

        Raises:
            InputError: a run's configuration does not work with its data.
        """
        scores = [self._score(trial, seed) for seed in self.seeds]
        return trial_score(scores, self._config.tune.objective)

    def has_ended(self, trial: Trial) -> bool:
        """Tell whether all runs of a trial have."""
        return all(self._folder.run(trial.folder, seed).has_ended() for seed in self.seeds)

    def _score(self, trial: Trial, seed: int) -> float | None:
        config = trial_config(self._config, trial.values, seed, trial.epochs)
        run = self._folder.run(trial.folder, seed)
        while (
            not run.has_ended() and run.is_held()
        ):  # by a worker whose chief was started again meanwhile
            time.sleep(HELD_SECONDS)
        if run.config_file.exists():
            run.resume(config, self._hooks.log)
        else:
            # A kill in the middle of the run's very beginning: the folder is not yet a run.
            shutil.rmtree(run.path, ignore_errors=True)
        if not run.has_ended():
            own_code.check_unchanged(self._code, self._config.own_functions())
            self._hooks.begin_run(trial, seed)
            start_afresh()
            # The rate of a cosine depends on the number of epochs: such a run begins anew.
            is_new = not run.config_file.exists()
            if is_new and trial.folder_before and config.train.schedule.name != "cosine":
                run.begin_from(self._folder.run(trial.folder_before, seed), config)
            resume = run.config_file.exists()
            train(config, run.path, resume, self._hooks.callbacks, self._log)
            self._log = _ignore  # the runs of a sweep differ little: one description is enough
        return run_score(run, self._config.tune.objective)
