"""Several processes in one sweep: a chief that chooses the trials, and workers that run them.

Each worker is an ordinary `bnzoo tune` with keras-tuner's variables, whoever starts it. It asks for
trials under its name, also when it was killed and is started again, and keras-tuner's oracle gives
a name its unfinished trial again (`search.py`); its runs go on at their last epoch (`sweep.py`).
"""

import dataclasses
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bnzoo.errors import InputError
from bnzoo.workers import WorkerPool

TUNER_ID = "KERASTUNER_TUNER_ID"
ADDRESS, PORT = "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
CONNECTED = "Connected to the chief"  # what a worker prints when it is


@dataclasses.dataclass(frozen=True)
class Role:
    """The part of a process in a sweep of several.

    Attributes:
        name: the chief's or the worker's own.
        address: of the chief, as `ip:port`.
    """

    name: str
    address: str

    @property
    def is_chief(self) -> bool:
        """Whether this process answers the workers; keras-tuner asks for `chief` in its name."""
        return "chief" in self.name

    def variables(self) -> dict[str, str]:
        """Return the environment variables that give a process this role."""
        host, _, port = self.address.rpartition(":")
        return {TUNER_ID: self.name, ADDRESS: host, PORT: port}


def role_of(environment: Mapping[str, str] = os.environ) -> Role | None:
    """Return the role that a process has been given; None searches alone.

    Raises:
        InputError: only some of the variables are set, or the port is none.
    """
    name, host, port = found = [environment.get(key, "") for key in (TUNER_ID, ADDRESS, PORT)]
    if not host and not port:
        return None
    if not (all(found) and port.isdigit() and 0 < int(port) < 2**16):
        raise InputError(
            f"expected a name, the chief's address and a port from 1 to 65535, or none of them, "
            f"got {TUNER_ID}={name!r}, {ADDRESS}={host!r} and {PORT}={port!r}. For example "
            f"{TUNER_ID}=worker-1 {ADDRESS}=192.168.0.7 {PORT}=8000."
        )
    return Role(name, f"{host}:{port}")


class SweepWorkers(WorkerPool):
    """The workers of a chief, which is this process.

    Args:
        count: how many.
        arguments: of `bnzoo` in each process.
        wait: seconds that each may take to reach the chief.
        logs: as of `WorkerPool`.
        log: as of `WorkerPool`.
    """

    def __init__(
        self,
        count: int,
        arguments: Sequence[str],
        wait: float,
        logs: Path,
        log: Callable[[str], None],
    ):
        self.chief, self._wait = Role("chief", f"127.0.0.1:{_free_port()}"), wait
        address = self.chief.address
        variables = lambda name: Role(name, address).variables()  # noqa: E731
        super().__init__(count, arguments, logs, log, variables)

    def poll(self) -> None:
        """Look at the workers as every pool does, and whether they reach the chief.

        Raises:
            InputError: one has not in time; or as every pool.
            WorkerError: as every pool.
        """
        for worker in self.workers:
            is_late = time.monotonic() - worker.started > self._wait
            if worker.is_running() and is_late and CONNECTED not in worker.printed():
                raise InputError(
                    f"{worker.name}: expected it to reach the chief within {self._wait:g} s, and "
                    "it has not. Is the machine too busy for so many workers? Start fewer with "
                    "--workers, or give them more time with --wait."
                )
        super().poll()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
