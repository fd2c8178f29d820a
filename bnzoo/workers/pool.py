"""Several processes at one task: started, restarted when they die, and ended together.

Each worker is an ordinary command of `bnzoo` that takes part in what others do, and would do so
wherever it were started.
"""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bnzoo.errors import InputError
from bnzoo.workers.dividing import cores_of, gpus_of

STARTER = "BNZOO_STARTER"  # the id of the process that has started a worker
STOP_SECONDS = 30.0  # to end the epoch's files after Ctrl-C, before being killed
POLL_SECONDS = 0.5  # between looks at the workers
MOST_STARTS = 4
LAST_LINES = 20  # of what a worker printed, where it has ended without a message


class WorkerError(Exception):
    """The work of another process failed: a message for the person, without a traceback."""


@dataclasses.dataclass
class Worker:
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

    def is_running(self) -> bool:
        """Tell whether the process has not ended."""
        return self.process.poll() is None

    def printed(self) -> str:
        """Return what the process has printed."""
        return self.log.read_text(errors="replace").strip()


class WorkerPool:
    """Workers on this machine: started at once, polled, restarted when they die, and ended.

    Use it as a context manager, so that no process is left; an inner `with` ends them sooner.

    Args:
        count: how many.
        arguments: of `bnzoo` in each process, the command first.
        logs: the folder for what they print, made once this process holds the folder it is in.
        log: called with lines on what happens to them.
        variables: returns the environment variables of a worker beside those of this process.
    """

    def __init__(
        self,
        count: int,
        arguments: Sequence[str],
        logs: Path,
        log: Callable[[str], None],
        variables: Callable[[str], dict[str, str]] = lambda name: {},
    ):
        self._command = [sys.executable, "-m", "bnzoo", *arguments]
        self._prefix = f"bnzoo {arguments[0]}: "  # of an error message
        self._logs, self._log, self._is_serving = logs, log, False
        self._printed = Path(tempfile.mkdtemp(prefix="bnzoo-workers-"))
        self.workers: list[Worker] = []
        log(f"Starting {count} workers ...")
        for number, (cores, gpu) in enumerate(zip(cores_of(count), gpus_of(count), strict=True), 1):
            name = f"worker-{number}"
            environment = {**os.environ, **gpu, **variables(name), STARTER: str(os.getpid())}
            self.workers.append(Worker(name, environment, cores, self._printed / f"{name}.log"))
            self.workers[-1].start(self._command)
        # This process trains nothing; TensorFlow would take a GPU's memory from the workers.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

    def wait(self, poll: Callable[[], None] = lambda: None) -> None:
        """Wait until all workers have come to their end.

        Args:
            poll: called twice a second, and once more afterwards.

        Raises:
            InputError: as `poll`.
            WorkerError: as `poll`.
        """
        while True:
            self.poll()
            have_ended = all(worker.process.poll() == 0 for worker in self.workers)
            poll()
            if have_ended:
                return
            time.sleep(POLL_SECONDS)

    def poll(self) -> None:
        """Restart workers that died; call it a few times a second.

        Raises:
            InputError: a worker refused the input.
            WorkerError: the work of one failed, or one died too often.
        """
        self._is_serving = True
        for worker in self.workers:
            code = worker.process.poll()
            if code == 2:
                raise InputError(self._message(worker))
            if code and code > 0:
                raise WorkerError(f"{worker.name} failed: {self._message(worker)}")
            if code and code < 0:
                self._restart(worker, signal.Signals(-code).name)

    def _message(self, worker: Worker) -> str:
        """Return a worker's error message, or the last that it printed."""
        _, found, message = worker.printed().rpartition(self._prefix)
        return message if found else "\n".join(worker.printed().splitlines()[-LAST_LINES:])

    def _restart(self, worker: Worker, reason: str) -> None:
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
            for worker in self.workers if kind else ():
                worker.process.terminate()  # some ignore SIGINT: what a script's `&` started
            for worker in self.workers:
                worker.process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            pass
        finally:  # at once after a second Ctrl-C
            for worker in self.workers:
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
