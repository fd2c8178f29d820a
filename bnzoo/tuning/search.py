"""The search itself: the loop that runs trials, alone or as chief and workers over the network."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from keras_tuner.src import protos
from keras_tuner.src.distribute import oracle_chief, oracle_client
from keras_tuner.src.engine.trial import TrialStatus

from bnzoo.config import Config, space_of
from bnzoo.errors import InputError
from bnzoo.tuning.trials import Trial, as_trial
from bnzoo.tuning.workers import PORT, TUNER_ID, Role
from bnzoo.workers import WorkerError

POLL_SECONDS = 0.2  # between a worker's questions, and the chief's looks at its workers
EXIT_SECONDS = 10.0  # for a worker of this machine to end, and to leave the reason
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
        oracle: of `saved_oracle`, or the chief's, of `connected`.
        config: the sweep's.
        run_trial: runs one trial and returns its score.
        end_trial: called after each trial with its score.
        name: of this process. keras-tuner gives a name the trial that it did not end again, so a
            worker that was killed goes on with its own (`Oracle.create_trial`).

    Raises:
        Exception: what a trial raised: keras-tuner's own loop would let three of them fail.
    """
    space, objective = space_of(config), config.tune.objective.name
    while (asked := oracle.create_trial(name)).status != TrialStatus.STOPPED:
        if asked.status == TrialStatus.IDLE:
            time.sleep(POLL_SECONDS)
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


class _Client(oracle_client.OracleClient):
    """The chief's oracle as a worker sees it."""

    def __init__(self, channel: grpc.Channel, name: str):
        # Not keras-tuner's own, which opens a channel that goes through proxies.
        self.stub = protos.get_service_grpc().OracleStub(channel)
        self.tuner_id, self.multi_worker, self.should_report = name, False, True


@contextlib.contextmanager
def connected(role: Role, wait: float) -> Iterator[_Client]:
    """Give the chief's oracle, once the chief has answered.

    Args:
        role: the worker's.
        wait: seconds that it waits for the chief, now and whenever it asks.

    Raises:
        InputError: nobody answers.
    """
    oracle_client.TIMEOUT = wait
    client = _Client(grpc.insecure_channel(role.address, options=[NO_PROXY]), role.name)
    try:
        client.get_space()
        yield client
    except grpc.RpcError as error:
        if error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
            raise RuntimeError(f"{role.address}: {error.details()}") from None
        raise InputError(
            f"{role.name}: expected a chief at {role.address}, and none has answered for "
            f"{wait:g} s. Start it with {TUNER_ID}=chief and the same command (with --resume if "
            "it has been at work before), or give it more time with --wait."
        ) from None


def serve(oracle: Any, role: Role, poll: Callable[[], None] = lambda: None) -> None:
    """Answer the workers until the search has ended and each of them knows.

    Args:
        oracle: of `saved_oracle`.
        role: the chief's.
        poll: called a few times a second.

    Raises:
        InputError: the address is in use, or not this machine's.
        WorkerError: a trial failed on its worker.
    """
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[ALONE_AT_PORT])
    servicer = oracle_chief.OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        server.add_insecure_port(role.address)
    except RuntimeError:
        raise InputError(
            f"{role.name}: expected an address of this machine with a free port, got "
            f"{role.address}, where nothing can listen. Is another chief running? Set {PORT} to "
            "another port."
        ) from None
    server.start()
    try:
        # keras-tuner's own loop would look every 20 s whether all workers have gone.
        while not (servicer.stop_triggered and oracle_chief.exit_chief(oracle)):
            trials = list(oracle.trials.values())  # another thread adds to them
            failed = [one.trial_id for one in trials if one.status == TrialStatus.FAILED]
            poll()
            if failed:
                _raise_failed(failed[0], poll)
            time.sleep(POLL_SECONDS)
        poll()
    finally:
        server.stop(grace=1).wait()


def _raise_failed(trial_id: str, poll: Callable[[], None]) -> None:
    """Give a worker of this machine the time to end: `poll` then raises what it said."""
    deadline = time.monotonic() + EXIT_SECONDS
    while time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        poll()
    raise WorkerError(f"Trial {int(trial_id) + 1} failed on its worker, which says why.")
