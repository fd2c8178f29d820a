"""A chief and its workers as processes of this machine: started, watched, restarted, stopped.

Each is an ordinary `bnzoo tune` with keras-tuner's variables, as it would be started by hand.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bnzoo.errors import InputError
from bnzoo.tuning.devices import cores_of, gpus_of
from bnzoo.tuning.roles import CrewError, Role

CHIEF = "chief"
CONNECTED = "Connected to the chief"  # what a worker says when it is
LISTENING = "Listening at"  # what a chief says once the folder is its own
STARTER = "BNZOO_TUNE_STARTER"  # the id of the process that has to stop chief and workers
LOOK_SECONDS = 0.2
STOP_SECONDS = 30.0  # to end the epoch's files after Ctrl-C, before being killed
MOST_RESTARTS = 3


class Member:
    """One process, and what it said.

    Args:
        role: its part.
        command: how it is started.
        variables: environment variables besides those of its part.
        cores: that it may use; empty for all.
        logs: the folder of what it says.
    """

    def __init__(
        self,
        role: Role,
        command: Sequence[str],
        variables: dict[str, str],
        cores: set[int],
        logs: Path,
    ):
        self.name, self._command, self._cores = role.name, command, cores
        self._ready = LISTENING if role.is_chief else CONNECTED
        self._environment = {
            **os.environ, **variables, **role.variables(), STARTER: str(os.getpid()),
        }  # fmt: skip
        self._output, self._errors = logs / f"{role.name}.log", logs / f"{role.name}.err"
        self.restarts = -1
        self.start()

    def start(self) -> None:
        """Start the process out of reach of the terminal's Ctrl-C: its starter passes that on."""
        with self._output.open("ab") as output, self._errors.open("wb") as errors:
            self._said_before = output.tell()
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        if self._cores:  # before it has started any thread
            os.sched_setaffinity(self.process.pid, self._cores)
        self.started, self.is_ready = time.monotonic(), False
        self.restarts += 1

    def look_whether_ready(self) -> bool:
        """Tell whether a worker has reached its chief since it was started, or a chief listens."""
        if not self.is_ready:
            said = self._output.read_bytes()[self._said_before :]
            self.is_ready = self._ready.encode() in said
        return self.is_ready

    def complaint(self) -> str:
        """Return its error message, or all that it said there."""
        text = self._errors.read_text(errors="replace").strip()
        printed = self._output.read_bytes()[self._said_before :].decode(errors="replace")
        _, _, message = (text or printed).partition("bnzoo tune: ")
        return message.strip() or text or f"{self.name} ended without a word"

    def ask_to_stop(self) -> None:
        """Stop it as Ctrl-C does; that signal itself is ignored by what a script's `&` started."""
        if self.process.poll() is None:
            self.process.terminate()

    def end(self, seconds: float) -> None:
        """Wait, and then do not wait any more."""
        try:
            self.process.wait(max(seconds, 0.01))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_crew(
    workers: int,
    arguments: Sequence[str],
    chief_arguments: Sequence[str],
    keep_logs: Callable[[Path], None],
    announce: Callable[[str], None],
    look: Callable[[], None],
    wait: float,
) -> None:
    """Run a sweep with a chief and workers, to its end.

    Args:
        workers: how many.
        arguments: of `bnzoo` in each process.
        chief_arguments: more of the chief's.
        keep_logs: called in the end with the folder of what they said.
        announce: called with lines on what happens to the processes.
        look: called a few times a second.
        wait: seconds that each worker may take to reach the chief.

    Raises:
        InputError: chief or worker refused the input, or a worker has not reached the chief.
        CrewError: the work of one of them failed, or one died too often.
    """
    command = [sys.executable, "-m", "bnzoo", *arguments]
    address = f"127.0.0.1:{_free_port()}"
    with tempfile.TemporaryDirectory(prefix="bnzoo-tune-") as folder:
        members: list[Member] = []
        try:
            chief = Member(
                Role(CHIEF, address),
                [*command, *chief_arguments],
                {"CUDA_VISIBLE_DEVICES": "-1"},  # or TensorFlow takes a GPU's memory for nothing
                set(),
                Path(folder),
            )
            members.append(chief)
            parts = zip(cores_of(workers), gpus_of(workers), strict=True)
            for number, (cores, gpu) in enumerate(parts, start=1):
                role = Role(f"worker-{number}", address)
                members.append(Member(role, command, gpu, cores, Path(folder)))
            _attend(chief, members[1:], announce, look, wait)
        finally:
            try:
                _stop(members)
            except KeyboardInterrupt:  # a second Ctrl-C: at once, then
                for member in members:
                    member.end(0)
                raise
            finally:
                keep_logs(Path(folder))


def _attend(
    chief: Member,
    workers: Sequence[Member],
    announce: Callable[[str], None],
    look: Callable[[], None],
    wait: float,
) -> None:
    while (code := chief.process.poll()) is None:
        for worker in workers:
            _attend_worker(worker, announce, wait)
        if chief.look_whether_ready():  # before that the folder may hold another sweep
            look()
        time.sleep(LOOK_SECONDS)
    if code < 0:
        raise CrewError(f"The chief died ({_signal(code)}). Nothing that had ended is lost.")
    for worker in workers:  # the chief stops when a trial fails; the worker knows why
        if worker.process.poll() not in (None, 0) and worker.process.returncode > 0:
            _refuse(worker)
    if code:
        _refuse(chief)
    look()
    for worker in workers:  # each has been told that there are no more trials
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(STOP_SECONDS)


def _attend_worker(worker: Member, announce: Callable[[str], None], wait: float) -> None:
    code = worker.process.poll()
    if code is None:
        if not worker.look_whether_ready() and time.monotonic() - worker.started > wait:
            raise InputError(
                f"{worker.name}: expected it to reach the chief within {wait:g} s, and it has not. "
                "Is the machine too busy for so many workers? Start fewer with --workers, or give "
                "them more time with --wait."
            )
    elif code > 0:
        _refuse(worker)
    elif code < 0:
        if worker.restarts == MOST_RESTARTS:
            raise CrewError(
                f"{worker.name} died {MOST_RESTARTS + 1} times, the last time of {_signal(code)}. "
                "Is there enough memory? Nothing that had ended is lost."
            )
        worker.start()
        announce(f"{worker.name} died ({_signal(code)}) and was started again.")


def _refuse(member: Member) -> None:
    """Pass on why a process has ended."""
    if member.process.returncode == 2:
        raise InputError(member.complaint())
    raise CrewError(f"{member.name} failed: {member.complaint()}")


def _stop(members: Sequence[Member]) -> None:
    """Let the workers end before the chief, which then writes down what there is."""
    chief, workers = members[:1], members[1:]
    failed = [worker for worker in workers if (worker.process.poll() or 0) > 0]
    told = any(worker.look_whether_ready() for worker in failed)
    for worker in workers:
        if not worker.look_whether_ready():  # it is still starting: nothing can be lost
            worker.process.kill()
        worker.ask_to_stop()
    deadline = time.monotonic() + STOP_SECONDS
    for worker in workers:
        worker.end(deadline - time.monotonic())
    for member in chief:
        if told:  # a worker has told it of its failure: it stops by itself
            with contextlib.suppress(subprocess.TimeoutExpired):
                member.process.wait(STOP_SECONDS)
        member.ask_to_stop()
        member.end(STOP_SECONDS)


def stop_without_starter() -> None:
    """Stop this process, if a crew has started it, once the crew's starter is gone.

    It may be killed, or its terminal closed; its chief would then hold the folder for ever.
    """
    starter = os.environ.get(STARTER)
    if starter is None:
        return

    def watch() -> None:
        while os.getppid() == int(starter):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _signal(code: int) -> str:
    return signal.Signals(-code).name
