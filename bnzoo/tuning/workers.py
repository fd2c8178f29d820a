"""Several processes in one sweep: a chief that chooses the trials, and workers that run them.

Each worker is an ordinary `bnzoo tune` with keras-tuner's variables, whoever starts it. One that is
killed is started again here. It asks under its old name, and keras-tuner's oracle gives a name its
unfinished trial again (`search.py`); its runs go on at their last epoch (`sweep.py`).
"""

import dataclasses
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bnzoo.errors import InputError

TUNER_ID = "KERASTUNER_TUNER_ID"
ADDRESS, PORT = "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
STARTER = "BNZOO_TUNE_STARTER"  # the id of the process that has started a worker
CONNECTED = "Connected to the chief"  # what a worker prints when it is
STOP_SECONDS = 30.0  # to end the epoch's files after Ctrl-C, before being killed
MOST_STARTS = 4
LAST_LINES = 20  # of what a worker printed, where it has ended without a message


class WorkerError(Exception):
    """The work of another process failed: a message for the person, without a traceback."""


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


@dataclasses.dataclass
class _Worker:
    """One process.

    Attributes:
        name: the worker's.
        environment: its variables.
        cores: that it may use; empty for all.
        log: the file of what it prints.
        starts: how often it was started.
    """

    name: str
    environment: dict[str, str]
    cores: set[int]
    log: Path
    starts: int = 0

    def start(self, command: Sequence[str]) -> None:
        """Start the process out of reach of the terminal's Ctrl-C: the pool passes that on."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if self.cores:  # before it has started any thread
            os.sched_setaffinity(self.process.pid, self.cores)
        self.started = time.monotonic()
        self.starts += 1

    def message(self) -> str:
        """Return its error message, or the last that it printed."""
        text = self.log.read_text(errors="replace").strip()
        _, found, message = text.rpartition("bnzoo tune: ")
        return message if found else "\n".join(text.splitlines()[-LAST_LINES:])


class WorkerPool:
    """Workers on this machine: started at once, polled, restarted when they die, and ended.

    Use it as a context manager, so that no process is left; an inner `with` ends them sooner.

    Args:
        count: how many.
        arguments: of `bnzoo` in each process.
        wait: seconds that each may take to reach the chief, which is this process.
        logs: the folder for what they print, made once this process holds the sweep's folder.
        log: called with lines on what happens to them.
    """

    def __init__(
        self,
        count: int,
        arguments: Sequence[str],
        wait: float,
        logs: Path,
        log: Callable[[str], None],
    ):
        self.chief = Role("chief", f"127.0.0.1:{_free_port()}")
        self._command = [sys.executable, "-m", "bnzoo", *arguments]
        self._wait, self._logs, self._log, self._is_serving = wait, logs, log, False
        self._printed = Path(tempfile.mkdtemp(prefix="bnzoo-tune-"))
        self._workers = []
        for number, (cores, gpu) in enumerate(zip(cores_of(count), gpus_of(count), strict=True), 1):
            role = Role(f"worker-{number}", self.chief.address)
            environment = {**os.environ, **gpu, **role.variables(), STARTER: str(os.getpid())}
            file = self._printed / f"{role.name}.log"
            self._workers.append(_Worker(role.name, environment, cores, file))
            self._workers[-1].start(self._command)
        # The chief trains nothing; TensorFlow would take a GPU's memory from the workers.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

    def poll(self) -> None:
        """Restart workers that died; call it a few times a second.

        Raises:
            InputError: a worker refused the input, or has not reached the chief in time.
            WorkerError: the work of one failed, or one died too often.
        """
        self._is_serving = True
        for worker in self._workers:
            code = worker.process.poll()
            is_late = time.monotonic() - worker.started > self._wait
            if code is None and is_late and CONNECTED.encode() not in worker.log.read_bytes():
                raise InputError(
                    f"{worker.name}: expected it to reach the chief within {self._wait:g} s, and "
                    "it has not. Is the machine too busy for so many workers? Start fewer with "
                    "--workers, or give them more time with --wait."
                )
            if code == 2:
                raise InputError(worker.message())
            if code and code > 0:
                raise WorkerError(f"{worker.name} failed: {worker.message()}")
            if code and code < 0:
                self._restart(worker, signal.Signals(-code).name)

    def _restart(self, worker: _Worker, reason: str) -> None:
        if worker.starts == MOST_STARTS:
            raise WorkerError(
                f"{worker.name} died {MOST_STARTS} times, the last time of {reason}. "
                "Is there enough memory? Nothing that had ended is lost."
            )
        worker.start(self._command)
        self._log(f"{worker.name} died ({reason}) and was started again.")

    def __enter__(self):
        return self

    def __exit__(self, kind, *error):
        """Wait until the workers have ended; after an error, stop them."""
        deadline = time.monotonic() + STOP_SECONDS
        try:
            for worker in self._workers if kind else ():
                worker.process.terminate()  # some ignore SIGINT: what a script's `&` started
            for worker in self._workers:
                worker.process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            pass
        finally:  # at once after a second Ctrl-C
            for worker in self._workers:
                worker.process.kill()
                worker.process.wait()
            if self._is_serving and self._printed.exists():
                shutil.copytree(self._printed, self._logs, dirs_exist_ok=True)
            shutil.rmtree(self._printed, ignore_errors=True)


def stop_without_starter() -> None:
    """Stop this process, if it is a worker of a pool, once the pool's process is gone.

    That may be killed, or its terminal closed.
    """
    if STARTER in os.environ:
        threading.Thread(target=_stop_orphan, daemon=True).start()


def _stop_orphan() -> None:
    while os.getppid() == int(os.environ[STARTER]):
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def cores_of(workers: int) -> list[set[int]]:
    """Return the cores of each worker: all are used, and shared only where there are too few.

    Where the system cannot say which cores a process may use, each set is empty.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(workers)]
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[n::workers]) or {cores[n % len(cores)]} for n in range(workers)]


def gpus_of(workers: int) -> list[dict[str, str]]:
    """Return the environment variables that give each worker its GPU; none without GPUs.

    More workers than GPUs share them, and then take memory as they need it.
    """
    gpus = _gpus()
    shared = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if workers > len(gpus) else {}
    names = itertools.cycle(gpus)
    return [{"CUDA_VISIBLE_DEVICES": next(names), **shared} if gpus else {} for _ in range(workers)]


def _gpus() -> list[str]:
    """Return what names each GPU that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    return [str(number) for number, line in enumerate(lines) if line.startswith("GPU")]
