"""Run a trial: its values with each seed, as ordinary runs made by `bnzoo.training.train`."""

import shutil
import time
from collections.abc import Callable, Sequence

import keras

from bnzoo.config import Config, trial_config
from bnzoo.runs import RunFolder, SweepFolder
from bnzoo.training import start_afresh, train
from bnzoo.tuning.score import run_score, trial_score
from bnzoo.tuning.trial import Trial

HELD_SECONDS = 0.5  # between looks at a run that another process is at work on


def _say_nothing(line: str) -> None:
    pass


class Executor:
    """Run trials; runs that have ended are not run again.

    Args:
        config: the sweep's.
        folder: the sweep's.
        callbacks: more Keras callbacks for every run.
        announce: called with lines that describe the first run.
        begin_run: called before each run with the trial and the seed.
    """

    def __init__(
        self,
        config: Config,
        folder: SweepFolder,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        announce: Callable[[str], None] = _say_nothing,
        begin_run: Callable[[Trial, int], None] = lambda trial, seed: None,
    ):
        self._config, self._folder = config, folder
        self._callbacks, self._announce, self._begin_run = callbacks, announce, begin_run
        self.seeds = config.tune.seeds_from(config.seed)

    def __call__(self, trial: Trial) -> float:
        """Run a trial and return its score.

        Raises:
            InputError: a run's configuration does not work with its data.
        """
        scores = [self._score(trial, seed) for seed in self.seeds]
        return trial_score(scores, self._config.tune.objective)

    def has_ended(self, trial: Trial) -> bool:
        """Tell whether all runs of a trial have."""
        return all(self._folder.run(trial.name, seed).has_ended() for seed in self.seeds)

    def _score(self, trial: Trial, seed: int) -> float | None:
        config = trial_config(self._config, trial.values, seed, trial.epochs)
        run = self._folder.run(trial.name, seed)
        while run.is_held():  # by a worker whose chief was started again meanwhile
            time.sleep(HELD_SECONDS)
        if run.config_file.exists():
            run.resume(config)
        if not run.has_ended():
            self._begin_run(trial, seed)
            start_afresh()
            self._prepare(run, trial, seed, config)
            # The runs of a sweep differ little: one description is enough.
            announce, self._announce = self._announce, _say_nothing
            train(config, run.path, run.config_file.exists(), self._callbacks, announce)
        return run_score(run, self._config.tune.objective)

    def _prepare(self, run: RunFolder, trial: Trial, seed: int, config: Config) -> None:
        if run.config_file.exists():
            return
        # A kill in the middle of the run's very beginning: the folder is ours, and not yet a run.
        shutil.rmtree(run.path, ignore_errors=True)
        # The rate of a cosine depends on the number of epochs: such a run begins anew.
        if trial.name_before and config.train.schedule.name != "cosine":
            run.begin_from(self._folder.run(trial.name_before, seed), config)
