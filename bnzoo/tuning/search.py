"""The search itself: the loop that runs trials, alone or as chief and workers over the network."""

import contextlib
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from keras_tuner.src import protos
from keras_tuner.src.distribute import oracle_chief, oracle_client
from keras_tuner.src.engine.trial import TrialStatus

from bnzoo.config import Config, space_of
from bnzoo.tuning.roles import CrewError, Role, no_chief, no_port
from bnzoo.tuning.trial import Trial, as_trial

IDLE_SECONDS = 0.2  # between a worker's questions, and the chief's looks at itself
NO_PROXY = ("grpc.enable_http_proxy", 0)  # a proxy of the environment knows no other machine
ALONE_AT_PORT = ("grpc.so_reuseport", 0)  # else two chiefs share a port, and the workers


def search(
    oracle: Any,
    config: Config,
    run_trial: Callable[[Trial], float],
    end_trial: Callable[[Trial, float], None] = lambda trial, score: None,
    name: str = "alone",
) -> None:
    """Run trials until the search has ended.

    Args:
        oracle: of `saved_oracle`, or the chief's, of `connect`.
        config: the sweep's.
        run_trial: runs one trial and returns its score.
        end_trial: called after each trial with its score.
        name: of this process; a trial that it did not end is given to it again.

    Raises:
        Exception: what a trial raised: keras-tuner's own loop would let three of them fail.
    """
    space, objective = space_of(config), config.tune.objective.name
    while (asked := oracle.create_trial(name)).status != TrialStatus.STOPPED:
        if asked.status == TrialStatus.IDLE:
            time.sleep(IDLE_SECONDS)
            continue
        trial = as_trial(asked.trial_id, asked.hyperparameters.values, space)
        try:
            score = run_trial(trial)
        except Exception:
            if isinstance(oracle, _Client):  # or the chief would wait for this trial for ever
                asked.status = TrialStatus.FAILED
                with contextlib.suppress(Exception):  # that the chief is gone matters less
                    oracle.end_trial(asked)
            raise
        oracle.update_trial(asked.trial_id, {objective: score})
        asked.status = TrialStatus.COMPLETED
        oracle.end_trial(asked)
        end_trial(trial, score)


def connect(role: Role, wait: float) -> "_Client":
    """Return the chief's oracle, once the chief has answered.

    Args:
        role: the worker's.
        wait: seconds that it waits for the chief, now and whenever it asks.

    Raises:
        InputError: nobody answers.
    """
    client = _Client(role, wait)
    client.get_space()
    return client


class _Client(oracle_client.OracleClient):
    """The chief's oracle as a worker sees it: patient, and not for ever."""

    def __init__(self, role: Role, wait: float):
        # Not keras-tuner's own, which opens a channel that goes through proxies.
        oracle_client.TIMEOUT = wait
        channel = grpc.insecure_channel(role.address, options=[NO_PROXY])
        self.stub = _Stub(protos.get_service_grpc().OracleStub(channel), role, wait)
        self.tuner_id, self.multi_worker, self.should_report = role.name, False, True


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


def serve(oracle: Any, role: Role, look: Callable[[], None] = lambda: None) -> None:
    """Answer the workers until the search has ended and each of them knows.

    Args:
        oracle: of `saved_oracle`.
        role: the chief's.
        look: called a few times a second.

    Raises:
        InputError: the address is in use, or not this machine's.
        CrewError: a trial failed on its worker.
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
            trials = list(oracle.trials.values())  # another thread adds to them
            failed = [one.trial_id for one in trials if one.status == TrialStatus.FAILED]
            if failed:
                raise CrewError(f"Trial {failed[0]} failed on its worker, which says why.")
            look()
            time.sleep(IDLE_SECONDS)
    finally:
        server.stop(grace=1).wait()
