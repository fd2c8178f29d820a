"""keras-tuner's oracles, which choose the trials: their space, and their state in one file.

keras-tuner is told nothing but positions in lists of values: whole numbers survive its files and
its wire, lists and null could not pass through it at all, and 0.1 has come back as another number.
"""

import itertools
import json
import warnings
from collections.abc import Callable

import keras_tuner
import numpy as np
from keras_tuner.src.engine import conditions
from keras_tuner.src.engine.hyperparameters import hp_types
from keras_tuner.src.engine.trial import Trial as OracleTrial
from keras_tuner.src.engine.trial import TrialStatus

from bnzoo.config import Config, Dimension, combinations, space_of
from bnzoo.files import write_atomically
from bnzoo.runs import SweepFolder
from bnzoo.tuning.trials import COMPLETED, LARGEST_SCORE, Trial, read_trials

# `Parent.to_proto` of 1.4.8 prints its values each time that a trial crosses the wire.
conditions.print = lambda *values: None

MOST_COLLISIONS = 10_000  # with what was tried, until a space counts as exhausted; their own is 20


class _Saved:
    """An oracle that is one file, written whole: a kill leaves the state before or after a step.

    keras-tuner writes a file per trial and one for the rest, in place; killed between them it
    forgets trials, or cannot read its own files.
    """

    def save(self):
        """Write everything to the sweep's `oracle.json`."""
        trials = {
            key: {"values": trial.hyperparameters.values, "status": trial.status,
                  "score": trial.score}
            for key, trial in self.trials.items()
        }  # fmt: skip
        state = {**self.get_state(), "trials": trials}
        write_atomically(self.folder.oracle_file, json.dumps(state) + "\n")

    def _save_trial(self, trial):
        """Leave it to `save`, which follows wherever it matters."""

    def reload(self):
        """Read it back."""
        state = json.loads(self.folder.oracle_file.read_text())
        for key, saved in state["trials"].items():
            hyperparameters = self.hyperparameters.copy()
            hyperparameters.values = saved["values"]
            trial = OracleTrial(hyperparameters, key, saved["status"])
            trial.score = saved["score"]
            self.trials[key] = trial
        self.set_state({**state, "ongoing_trials": {}})

    def run_again(self, keys):
        """Give out these trials before any other, in the order in which they were started."""
        # The queue is emptied from its end.
        self._retry_queue = [key for key in reversed(self.start_order) if key in keys]
        self.end_order = [key for key in self.end_order if key not in keys]


class _Grid(_Saved, keras_tuner.Oracle):
    """The combinations in order.

    keras-tuner's own grid gives out the next trial when the last one has ended, waiting for keys
    that a trial might discover: of two workers one would always be idle.
    """

    left = None

    def populate_space(self, trial_id):
        """Return the next combination; a search that goes on begins after those it had."""
        if self.left is None:
            self.left = itertools.islice(combinations(self.space), int(trial_id), None)
        values = next(self.left, None)
        if values is None:
            return {"status": TrialStatus.STOPPED}
        return {"status": TrialStatus.RUNNING, "values": values}


class _Bayesian(_Saved, keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimization that tries no combination twice and bears diverged trials."""

    def populate_space(self, trial_id):
        """Return what the Gaussian process likes best, or a random one if that was tried."""
        # scikit-learn warns of how the fit of a few points went.
        with warnings.catch_warnings(action="ignore"):
            found = super().populate_space(trial_id)
        is_old = found["status"] == TrialStatus.RUNNING and self._duplicate(found["values"])
        return self._random_populate_space() if is_old else found

    def _vectorize_trials(self):
        """Let divergence be as far below the worst result as that is below the best.

        A score of a billion would make all others equal to the Gaussian process.
        """
        x, y = super()._vectorize_trials()
        measured = y[y <= LARGEST_SCORE]
        low, high = (measured.min(), measured.max()) if measured.size else (0.0, 0.0)
        y[y > LARGEST_SCORE] = high + ((high - low) or 1.0)
        return x, y

    def get_state(self):
        """Save the random numbers to come as well, which keras-tuner begins anew."""
        kind, keys, *rest = self._random_state.get_state()
        return {**super().get_state(), "random_state": [kind, keys.tolist(), *rest]}

    def set_state(self, state):
        """Take everything from a saved state."""
        super().set_state(state)
        self._random_state.set_state(state["random_state"])


class _Random(_Saved, keras_tuner.oracles.RandomSearchOracle):
    """Random search."""


class _Hyperband(_Saved, keras_tuner.oracles.HyperbandOracle):
    """Hyperband: many combinations for a few epochs, the best of them for more."""


_KINDS = {"grid": _Grid, "random": _Random, "bayesian": _Bayesian, "hyperband": _Hyperband}


def new_oracle(config: Config, folder: SweepFolder) -> _Saved:
    """Return the oracle of a sweep as it begins.

    Args:
        config: the sweep's.
        folder: where it saves its state.
    """
    tune, space = config.tune, _positions(space_of(config))
    is_hyperband = tune.algorithm == "hyperband"
    oracle = _KINDS[tune.algorithm](
        objective=keras_tuner.Objective(tune.objective.name, tune.objective.direction),
        hyperparameters=_hyperparameters(space),
        allow_new_entries=False,
        max_consecutive_failed_trials=10**9,  # one stops the search, see `serve`
        seed=_far_seed(config.seed),
        **{"max_epochs": config.train.epochs} if is_hyperband else {"max_trials": tune.max_trials},
    )
    oracle.folder, oracle.space, oracle.verbose = folder, space, 0
    oracle._max_collisions = MOST_COLLISIONS
    return oracle


def _far_seed(seed: int) -> int:
    """Return a seed far from those of its neighbors, and not 0, which keras-tuner takes for none.

    keras-tuner draws each trial with the next whole number as its seed: the searches of seeds 0
    and 1 would share all trials but one.
    """
    return int(np.random.SeedSequence(seed).generate_state(1)[0]) // 2 + 1


def saved_oracle(
    config: Config, folder: SweepFolder, has_ended: Callable[[Trial], bool] = lambda trial: True
) -> _Saved:
    """Return the oracle of a sweep in the state that its folder holds, if it holds one.

    Trials that were under way, or failed, are the first that it gives out again.

    Args:
        config: the sweep's.
        folder: where it saves its state.
        has_ended: tells of a completed trial whether its runs are all there; if not, it is given
            out again.

    Raises:
        InputError: the saved state cannot be read; a copy is kept.
    """
    oracle = new_oracle(config, folder)
    if not folder.oracle_file.exists():
        return oracle
    try:
        oracle.reload()
        states = read_trials(folder, config)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise folder.corrupt_oracle(error) from None
    ended = [state.status == COMPLETED and has_ended(state.trial) for state in states]
    # Both hold the trials in the order of the file.
    oracle.run_again({key for key, one in zip(oracle.trials, ended, strict=True) if not one})
    return oracle


def _positions(space: list[Dimension]) -> list[Dimension]:
    """Return the space with the place of each value in its list instead of the value."""
    lists = {one.path: one.values for one in space}
    found = []
    for one in space:
        met = {
            path: tuple(lists[path].index(value) for value in allowed)
            for path, allowed in one.conditions.items()
        }
        found.append(Dimension(one.path, tuple(range(len(one.values))), met))
    return found


def _hyperparameters(space: list[Dimension]) -> keras_tuner.HyperParameters:
    found = keras_tuner.HyperParameters()
    for one in space:
        parents = [conditions.Parent(path, list(met)) for path, met in one.conditions.items()]
        # Not `found.Int`: its nested conditions cannot name keys from outside the nest.
        found.merge([hp_types.Int(one.path, 0, one.values[-1], step=1, conditions=parents)])
    return found
