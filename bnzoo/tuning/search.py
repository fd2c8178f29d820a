"""The search itself: keras-tuner's oracles, and the only file that imports it.

keras-tuner is told nothing but positions in lists of values: whole numbers survive its files and
its wire, lists and null could not pass through it at all, and 0.1 has come back as another number.
"""

import json
import time
import warnings
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import keras_tuner
from keras_tuner.src import protos
from keras_tuner.src.distribute import oracle_chief, oracle_client
from keras_tuner.src.engine import conditions
from keras_tuner.src.engine.base_tuner import BaseTuner
from keras_tuner.src.engine.hyperparameters import hp_types
from keras_tuner.src.engine.trial import Trial as OracleTrial
from keras_tuner.src.engine.trial import TrialStatus

from bnzoo.config import Config, Dimension, space_of
from bnzoo.files import write_atomically
from bnzoo.runs import SweepFolder
from bnzoo.tuning.roles import Role, no_chief, no_port
from bnzoo.tuning.score import LARGEST_SCORE
from bnzoo.tuning.trial import Trial, as_trial

# `Parent.to_proto` of 1.4.8 prints its values each time that a trial crosses the wire.
conditions.print = lambda *values: None

IDLE_SECONDS = 0.2  # between a worker's questions, and the chief's looks at itself
NO_PROXY = ("grpc.enable_http_proxy", 0)  # a proxy of the environment knows no other machine
ALONE_AT_PORT = ("grpc.so_reuseport", 0)  # else two chiefs share a port, and the workers


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
        """Read it back; trials that were under way, or failed, are to be run (again)."""
        state = json.loads(self.folder.oracle_file.read_text())
        for key, saved in state["trials"].items():
            hyperparameters = self.hyperparameters.copy()
            hyperparameters.values = saved["values"]
            trial = OracleTrial(hyperparameters, key, saved["status"])
            trial.score = saved["score"]
            self.trials[key] = trial
        self.set_state({**state, "ongoing_trials": {}})
        again = (TrialStatus.RUNNING, TrialStatus.FAILED, TrialStatus.INVALID)
        # The queue is emptied from its end.
        self._retry_queue = [
            key for key in reversed(self.start_order) if self.trials[key].status in again
        ]


class _Grid(_Saved, keras_tuner.oracles.GridSearchOracle):
    """The grid in order. keras-tuner's own gives out the next trial when the last one has ended.

    It waits for keys that a trial might discover, which ours never do; with two workers one would
    always be idle. And it does not save where it stands in the grid.
    """

    def populate_space(self, trial_id):
        """Return the next combination, and remember it as the one to go on from."""
        found = super().populate_space(trial_id)
        if found["status"] == TrialStatus.RUNNING and trial_id not in self._populate_next:
            self._populate_next.append(trial_id)
        return found

    def set_state(self, state):
        """Take the place in the grid from the order in which trials were started."""
        super().set_state(state)
        for trial_id in self.start_order:
            self._ordered_ids.insert(trial_id)
        self._populate_next = self.start_order[-1:]


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


def _saved(kind: type) -> type:
    """Return one of keras-tuner's oracles as it is, but for its files."""
    return type(kind.__name__, (_Saved, kind), {})


_KINDS = {
    "grid": _Grid,
    "random": _saved(keras_tuner.oracles.RandomSearchOracle),
    "bayesian": _Bayesian,
    "hyperband": _saved(keras_tuner.oracles.HyperbandOracle),
}


def new_oracle(config: Config, folder: SweepFolder) -> _Saved:
    """Return the oracle of a sweep as it begins.

    Args:
        config: the sweep's.
        folder: where it saves its state.
    """
    tune = config.tune
    arguments: dict[str, Any] = {
        "objective": keras_tuner.Objective(tune.objective.name, tune.objective.direction),
        "hyperparameters": _hyperparameters(space_of(config)),
        "allow_new_entries": False,
        "max_consecutive_failed_trials": 10**9,  # one stops the search, see `serve`
        "seed": config.seed + 1,  # keras-tuner takes a seed of 0 for none
    }
    if tune.algorithm == "hyperband":
        arguments["max_epochs"] = config.train.epochs
    else:
        arguments["max_trials"] = tune.max_trials
    oracle = _KINDS[tune.algorithm](**arguments)
    oracle.folder, oracle.verbose = folder, 0
    return oracle


def saved_oracle(config: Config, folder: SweepFolder) -> _Saved:
    """Return the oracle of a sweep in the state that its folder holds, if it holds one.

    Raises:
        InputError: the saved state cannot be read; a copy is kept.
    """
    oracle = new_oracle(config, folder)
    if not folder.oracle_file.exists():
        return oracle
    try:
        oracle.reload()
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise folder.corrupt_oracle(error) from None
    return oracle


def _hyperparameters(space: list[Dimension]) -> keras_tuner.HyperParameters:
    lists = {dimension.path: dimension.values for dimension in space}
    found = keras_tuner.HyperParameters()
    for dimension in space:
        parents = [
            conditions.Parent(path, [lists[path].index(value) for value in allowed])
            for path, allowed in dimension.conditions.items()
        ]
        last = len(dimension.values) - 1
        # Not `found.Int`: its nested conditions cannot name keys from outside the nest.
        found.merge([hp_types.Int(dimension.path, 0, last, step=1, conditions=parents)])
    return found


class Tuner(BaseTuner):
    """keras-tuner's loop around our trials.

    Args:
        oracle: of `new_oracle` or `saved_oracle`.
        config: the sweep's.
        run_trial: runs one trial and returns its score.
        end_trial: called after each trial with its score.
        role: of a process that is not alone.
        wait: seconds that a worker waits for the chief.
    """

    def __init__(
        self,
        oracle: _Saved,
        config: Config,
        run_trial: Callable[[Trial], float],
        end_trial: Callable[[Trial, float], None] = lambda trial, score: None,
        role: Role | None = None,
        wait: float = 0.0,
    ):
        folder = oracle.folder.path
        super().__init__(oracle, directory=str(folder.parent), project_name=folder.name)
        if self._is_worker():
            self.oracle = _Client(oracle, role, wait)
        self._space, self._objective = space_of(config), config.tune.objective.name
        self._run_trial, self._end_trial = run_trial, end_trial

    def run_trial(self, trial: OracleTrial) -> dict[str, float]:
        """Run a trial; whatever goes wrong stops the search, instead of failing three trials."""
        ours = as_trial(trial.trial_id, trial.hyperparameters.values, self._space)
        try:
            score = self._run_trial(ours)
        except Exception as error:
            if self._is_worker():  # tell the chief, which would wait for this trial for ever
                trial.status = TrialStatus.FAILED
                self.oracle.end_trial(trial)
            raise keras_tuner.errors.FatalError(str(error)) from error
        self._end_trial(ours, score)
        return {self._objective: score}

    def save(self):
        """Leave it to the oracle; keras-tuner would reload its own file without being asked."""
        if not self._is_worker():
            self.oracle.save()


def search(tuner: Tuner) -> None:
    """Run trials until the search has ended.

    Raises:
        Exception: what a trial raised.
    """
    try:
        tuner.search()
    except keras_tuner.errors.FatalError as error:
        raise error.__cause__ from None


class _Client(oracle_client.OracleClient):
    """The chief's oracle as a worker sees it: patient, not for ever, and in no busy loop."""

    def __init__(self, oracle: _Saved, role: Role, wait: float):
        super().__init__(oracle)
        oracle_client.TIMEOUT = wait
        channel = grpc.insecure_channel(role.address, options=[NO_PROXY])
        self.stub = _Stub(protos.get_service_grpc().OracleStub(channel), role, wait)

    def create_trial(self, tuner_id):
        """Ask for a trial until there is one, or there will be none any more."""
        while (trial := super().create_trial(tuner_id)).status == TrialStatus.IDLE:
            time.sleep(IDLE_SECONDS)
        return trial


class _Stub:
    """The calls over the wire, with errors that say what to do."""

    def __init__(self, stub: Any, role: Role, wait: float):
        self._stub, self._role, self._wait = stub, role, wait

    def __getattr__(self, name: str) -> Callable:
        def call(*arguments, **options):
            try:
                return getattr(self._stub, name)(*arguments, **options)
            except grpc.RpcError as error:
                if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                    raise no_chief(self._role, self._wait) from None
                raise RuntimeError(f"{self._role.address}: {error.details()}") from None

        return call


def serve(oracle: _Saved, role: Role, look: Callable[[], None] = lambda: None) -> None:
    """Answer the workers until the search has ended and each of them knows.

    Args:
        oracle: of `new_oracle` or `saved_oracle`.
        role: the chief's.
        look: called a few times a second.

    Raises:
        InputError: the address is in use, or not this machine's.
        RuntimeError: a trial failed on its worker.
    """
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[ALONE_AT_PORT])
    servicer = oracle_chief.OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        server.add_insecure_port(role.address)
    except RuntimeError:
        raise no_port(role) from None
    server.start()
    try:
        # keras-tuner's own loop would look every 20 s whether all workers have gone.
        while not (servicer.stop_triggered and oracle_chief.exit_chief(oracle)):
            failed = [key for key, t in oracle.trials.items() if t.status == TrialStatus.FAILED]
            if failed:
                raise RuntimeError(f"trial {failed[0]} failed on its worker, which says why.")
            look()
            time.sleep(IDLE_SECONDS)
    finally:
        server.stop(grace=1).wait()
